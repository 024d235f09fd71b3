"""What is asked for of the ranks of a run, and where a process finds itself; without torch."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastnst.errors import InvalidInput
from fastnst.ranks import launch
from fastnst.ranks.launch import Plan, read_plan, share_of_threads


@pytest.fixture(autouse=True)
def _no_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_MAX_RESTARTS"):
        monkeypatch.delenv(name, raising=False)


def test_what_the_options_ask_for() -> None:
    assert read_plan(None, None, None, 0) is None
    assert read_plan(4, None, None, 2) == Plan(4, restarts=2)
    assert read_plan(1, None, None, 0) == Plan(1)
    assert read_plan(None, "1:8", "head:29400", 3) == Plan(1, 1, 8, "head:29400", 3)
    assert read_plan(2, "4", "10.0.0.7:1", 0) == Plan(2, 4, 4, "10.0.0.7:1")
    assert read_plan(2, "1:1", "[fe80::1]:29400", 0) == Plan(2, 1, 1, "[fe80::1]:29400")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((0, None, None, 0), "--ranks is 0"),
        ((5000, None, None, 0), "--ranks is 5000"),
        ((2, None, None, -1), "--restarts is -1"),
        ((None, None, None, 1), "--restarts is for --ranks"),
        ((2, "1:8", None, 0), "--machines and --join go together"),
        ((2, None, "head:1", 0), "--machines and --join go together"),
        ((2, "8:1", "head:1", 0), "--machines is 8:1"),
        ((2, "0:4", "head:1", 0), "--machines is 0:4"),
        ((2, "all", "head:1", 0), "--machines is all"),
        ((2, "1:8", "head", 0), "--join is head:"),
        ((2, "1:8", "head:0", 0), "--join is head:0"),
        ((2, "1:8", "head:70000", 0), "--join is head:70000"),
        ((2, "1:8", "fe80::1:29400", 0), "--join is fe80"),
    ],
)
def test_what_cannot_be(asked: tuple, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_plan(*asked)


def test_where_a_process_finds_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not launch.is_rank()
    assert (launch.rank(), launch.local_ranks(), launch.may_restart()) == (0, 1, False)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "1")
    assert launch.is_rank()
    assert (launch.rank(), launch.local_ranks(), launch.may_restart()) == (3, 2, True)
    monkeypatch.setenv("RANK", "three")
    with pytest.raises(InvalidInput, match="RANK is 'three'"):
        launch.rank()


def test_a_machine_is_shared_out() -> None:
    assert [share_of_threads(8, ranks) for ranks in (1, 2, 3, 8, 9)] == [8, 4, 2, 1, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that outlive their parent")
def test_a_rank_ends_when_its_launcher_has_died(tmp_path: Path) -> None:
    """The launcher here is a process that starts the rank and is killed."""
    rank = (
        "import os, time\n"
        "from pathlib import Path\n"
        "from fastnst.ranks.launch import end_with_launcher\n"
        "end_with_launcher(lambda line: Path('said').write_text(line))\n"
        "Path('there').write_text(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {rank!r}])"
    environment = {**os.environ, "RANK": "1", "TORCHELASTIC_RUN_ID": "x"}
    process = subprocess.Popen([sys.executable, "-c", launcher], cwd=tmp_path, env=environment)
    deadline = time.monotonic() + 60
    while not (tmp_path / "there").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    while not (tmp_path / "said").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (tmp_path / "said").read_text() == "rank 1: the launcher has died"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that outlive their parent")
def test_a_rank_ends_whose_launcher_had_died_before_it_looked(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    rank = (
        "import time\n"
        "from fastnst.ranks.launch import end_with_launcher\n"
        "end_with_launcher(print)\n"
        "time.sleep(60)\n"
    )
    about = {"RANK": "1", "TORCHELASTIC_RUN_ID": "x", launch.LAUNCHER: str(gone.pid)}
    done = subprocess.run(
        [sys.executable, "-u", "-c", rank], env={**os.environ, **about}, capture_output=True,
        text=True, timeout=50,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "rank 1: the launcher has died\n"), done.stderr
