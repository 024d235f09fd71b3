"""Ranks that are started, watched, ended and started again: by small scripts, without a picture."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastnst.ranks import agent
from fastnst.ranks.agent import run_ranks
from fastnst.ranks.launch import Plan
from helpers.ranks import free_port

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals of POSIX")

# Each rank leaves what it found in its environment, then does what a test asks for.
HEAD = """
import json, os, signal, sys, time
from pathlib import Path
rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "OMP_NUM_THREADS")
found = {"pid": os.getpid(), **{name: os.environ.get(name) for name in names}}
(folder / f".{rank}-{attempt}").write_text(json.dumps({**found, "arguments": sys.argv[2:]}))
(folder / f".{rank}-{attempt}").rename(folder / f"{rank}-{attempt}")
"""
LAUNCH = """
import os, sys, time
from fastnst.ranks import agent
from fastnst.ranks.agent import run_ranks
from fastnst.ranks.launch import Plan
agent.AT_ONCE = float(os.environ.get("AT_ONCE", "0"))
begin = agent.LocalElasticAgent._start_workers
def begin_slowly(self, group):  # on a busy machine ranks are there before their numbers are known
    started = begin(self, group)
    time.sleep(float(os.environ.get("PAUSE", "0")))
    return started
agent.LocalElasticAgent._start_workers = begin_slowly
sys.exit(run_ranks(sys.argv[2:], Plan(int(sys.argv[1])), print))
"""


def found(folder: Path) -> dict[str, dict]:
    return {path.name: json.loads(path.read_text()) for path in folder.glob("[0-9]-[0-9]")}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def launched(folder: Path, plan: Plan, work: str, *arguments: str) -> tuple[int, list[str]]:
    said: list[str] = []
    code = run_ranks(("-c", HEAD + work, str(folder), *arguments), plan, said.append)
    assert not any(alive(rank["pid"]) for rank in found(folder).values())
    return code, said


def test_each_rank_knows_its_number_and_its_share(tmp_path: Path) -> None:
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "RANK")}
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    words = ("a b", "$HOME", "$$", "${local_rank}", "é")
    assert launched(tmp_path, Plan(2), "", *words) == (0, [])
    ranks = found(tmp_path)
    assert sorted(ranks) == ["0-0", "1-0"]
    for number, rank in enumerate(ranks[name] for name in sorted(ranks)):
        assert rank["arguments"] == list(words)
        assert rank["RANK"] == str(number)
        assert rank["WORLD_SIZE"] == rank["LOCAL_WORLD_SIZE"] == "2"
        assert rank["MASTER_ADDR"] == "127.0.0.1"
        assert int(rank["OMP_NUM_THREADS"]) >= 1
    assert {name: os.environ.get(name) for name in before} == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize("ends", ["signal.SIG_DFL", "lambda *_: sys.exit(143)"])
def test_after_a_failure_all_start_again(tmp_path: Path, ends: str) -> None:
    """Whatever becomes of the others, which are ended by SIGTERM."""
    work = (
        f"signal.signal(signal.SIGTERM, {ends})\n"
        "if (rank, attempt) == (0, 0): Path(folder / 'set').touch()\n"
        "while not (folder / 'set').exists(): time.sleep(0.01)\n"
        "if (rank, attempt) == (1, 0): os.kill(os.getpid(), signal.SIGKILL)\n"
        "if attempt == 0: time.sleep(60)\n"
    )
    code, said = launched(tmp_path, Plan(2, restarts=1), work)
    assert code == 0
    assert said == [
        "rank 1 was ended by signal 9",
        "all ranks start again, 1 of 1 times at most",
    ]
    assert sorted(found(tmp_path)) == ["0-0", "0-1", "1-0", "1-1"]


@pytest.mark.parametrize(
    ("work", "expected", "line"),
    [
        ("sys.exit(1 if rank else 0)", 1, None),
        (
            "time.sleep(60 if rank else 0); os.kill(os.getpid(), 9)",
            1,
            "rank 0 was ended by signal 9",
        ),
        ("sys.exit(2)", 2, None),  # bad input: there is no use in another try
        ("sys.exit(130)", 130, None),
        ("sys.exit(65)", 1, None),  # it did what it could
    ],
)
def test_a_failure_ends_all(tmp_path: Path, work: str, expected: int, line: str | None) -> None:
    restarts = 0 if "1 if rank" in work or line else 3
    code, said = launched(tmp_path, Plan(2, restarts=restarts), work)
    assert code == expected
    assert said == ([] if line is None else [line])
    assert {name[-1] for name in found(tmp_path)} == {"0"}  # no second try


@pytest.mark.parametrize("how", ["STOP", "deaf"])
def test_a_rank_that_does_not_end_is_killed(tmp_path: Path, monkeypatch, how: str) -> None:
    monkeypatch.setattr(agent, "STOP_SECONDS", 0.5)
    work = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if rank == 1: (folder / 'there').touch()\n"
        f"if rank == 1 and {how == 'STOP'}: os.kill(os.getpid(), signal.SIGSTOP)\n"
        "while not (folder / 'there').exists(): time.sleep(0.01)\n"
        "time.sleep(0.1 if rank == 0 else 60)\n"
        "sys.exit(1)\n"
    )
    code, said = launched(tmp_path, Plan(2), work)
    assert code == 1
    assert said == ["rank 1 did not end within 0.5 s and was killed"]


def start(folder: Path, work: str) -> subprocess.Popen[str]:
    """A launcher in a process of its own, whose two ranks are there."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, "2", "-c", HEAD + work, str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 90
    while len(list(folder.glob("ready-*"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return process


LOOPBACK = {"0100007F", "7F000001"}  # 127.0.0.1, as the kernel of either byte order prints it
READY = "\n(folder / f'ready-{rank}').touch()\n"
WAIT = "signal.signal(signal.SIGINT, lambda *_: sys.exit(130))" + READY + "time.sleep(60)\n"


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.parametrize("pause", ["0", "1.5"])
def test_a_signal_goes_to_one_rank_and_a_second_one_ends_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause: str
) -> None:
    monkeypatch.setenv("PAUSE", pause)
    tells = (
        "signal.signal(signal.SIGINT, lambda *_: (folder / f'heard-{rank}').touch())" + READY
        + "while True: time.sleep(0.1)\n"
    )  # fmt: skip
    process = start(tmp_path, tells)
    process.send_signal(signal.SIGTERM)
    wait_for(tmp_path / "heard-0")
    assert process.poll() is None  # it waits for its ranks
    assert not (tmp_path / "heard-1").exists()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert not any(alive(rank["pid"]) for rank in found(tmp_path).values())


def test_what_comes_at_once_with_a_signal_is_no_second_one(tmp_path: Path, monkeypatch) -> None:
    """A terminal that is closed sends SIGHUP twice, ``timeout`` SIGTERM."""
    monkeypatch.setenv("AT_ONCE", "3600")
    tells = (
        "signal.signal(signal.SIGINT, lambda *_: (folder / f'heard-{rank}').touch())" + READY
        + "while not (folder / 'go').exists(): time.sleep(0.1)\nsys.exit(130)\n"
    )  # fmt: skip
    process = start(tmp_path, tells)
    process.send_signal(signal.SIGTERM)
    wait_for(tmp_path / "heard-0")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)  # in which it would have ended all
    (tmp_path / "go").touch()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, ""), err
    assert not any(alive(rank["pid"]) for rank in found(tmp_path).values())


def test_the_exit_code_is_that_of_the_signal(tmp_path: Path) -> None:
    process = start(tmp_path, WAIT)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, ""), err
    assert not any(alive(rank["pid"]) for rank in found(tmp_path).values())


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux")
def test_nothing_listens_but_on_the_loopback_address(tmp_path: Path) -> None:
    process = start(tmp_path, WAIT)
    try:
        addresses = listening(process.pid)
        assert addresses
        assert set(addresses) <= LOOPBACK
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


def listening(pid: int) -> list[str]:
    """The addresses, in hexadecimal, on which a process waits for connections."""
    sockets = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        target = str(path.readlink())
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and cells[9] in sockets:
                found.append(cells[1].rpartition(":")[0])
    return found


SUM = """
import torch
from fastnst.ranks.communication import join, leave
ranks = join(30)
numbers = torch.tensor([ranks.rank + 1])
ranks.reduce_exact(numbers)
(folder / f"ready-{rank}").write_text(f"{ranks.rank} {ranks.ranks} {int(numbers)}")
signal.sigwait({signal.SIGUSR1})
ranks.barrier()
leave()
"""


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux")
def test_ranks_add_up_and_listen_on_the_loopback_address_alone(tmp_path: Path) -> None:
    block = "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
    process = start(tmp_path, block + SUM)
    pids = [rank["pid"] for rank in found(tmp_path).values()]
    addresses = [address for pid in pids for address in listening(pid)]
    for pid in pids:
        os.kill(pid, signal.SIGUSR1)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, ""), err
    assert [(tmp_path / f"ready-{rank}").read_text() for rank in (0, 1)] == ["0 2 3", "1 2 3"]
    assert addresses
    assert set(addresses) <= LOOPBACK


JOIN = """
import sys
from fastnst.ranks.agent import run_ranks
from fastnst.ranks.launch import Plan
sys.exit(run_ranks(sys.argv[2:], Plan(1, 2, 2, sys.argv[1]), print))
"""
MEET = """
import torch
from fastnst.ranks.communication import join, leave
ranks = join(30)
numbers = torch.tensor([ranks.rank + 1])
ranks.reduce_exact(numbers)
(folder / f"sum-{ranks.rank}").write_text(f"{ranks.ranks} {ranks.local_ranks} {int(numbers)}")
leave()
"""


@pytest.mark.slow  # four processes import torch, two of them after the other two have met
def test_two_machines_meet_where_join_says(tmp_path: Path) -> None:
    """Two launchers of this machine, as those of two would."""
    place = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-c", JOIN, place, "-c", HEAD + MEET, str(tmp_path)]
    machines = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for machine in machines:
            out, err = machine.communicate(timeout=90)
            assert (machine.returncode, out) == (0, ""), err
    finally:
        for machine in machines:
            machine.kill()
    assert [(tmp_path / f"sum-{rank}").read_text() for rank in (0, 1)] == ["2 1 3", "2 1 3"]
    assert not any(alive(rank["pid"]) for rank in found(tmp_path).values())
