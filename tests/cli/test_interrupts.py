"""Signals at any moment: one line, the exit code of the signal, and what was done is saved."""

from __future__ import annotations

import os
import random
import select
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fastnst import __main__
from fastnst.cli import interrupts as module
from fastnst.cli.interrupts import NAMES, Interrupts

SIGNALS = {name: 128 + getattr(signal, name) for name in NAMES if hasattr(signal, name)}
ENDLESS = ["--size", "32", "--iterations", "100000", "-q", "--engine", "torch",
           "--style-layers", "relu1_1", "--content-layers", "relu1_1"]  # fmt: skip
PAIR = ["sample:harbour", "sample:swirl"]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 0.0)


def start(folder: Path, *arguments: str, **more) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fastnst", *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if not path.exists():
        process.kill()
        pytest.fail(f"no {path.name}: {process.communicate()}")


def test_the_signals_are_the_same_from_the_first_moment_on() -> None:
    assert __main__.NAMES == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
def test_what_was_painted_is_saved(tmp_path: Path, name: str) -> None:
    process = start(tmp_path, "stylize", *PAIR, "-o", "o.png", *ENDLESS, "--save-every", "2")
    wait_for(tmp_path / "o-00002.png", process)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert process.returncode == SIGNALS[name], err
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "fastnst: interrupted; the best picture so far is in o.png"
    with Image.open(tmp_path / "o.png") as image:
        image.load()
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_in_the_first_seconds_it_is_one_line(tmp_path: Path, seed: int) -> None:
    """While Python and torch are imported, and while the run is prepared."""
    rng = random.Random(seed)
    name = rng.choice(sorted(SIGNALS))
    process = start(tmp_path, "stylize", *PAIR, "-o", "o.png", *ENDLESS)
    time.sleep(0.3 + 0.6 * seed)  # Python itself is there after that
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    # before its first line fastnst has no say: the system ends the process
    assert process.returncode in (SIGNALS[name], -getattr(signal, name)), err
    if process.returncode > 0:
        assert [line for line in err.splitlines() if "stopping after" not in line and line] in (
            ["fastnst: interrupted"],
            ["fastnst: interrupted before there was a picture"],
            ["fastnst: interrupted; the best picture so far is in o.png"],
        )
        assert (tmp_path / "o.png").exists() == ("so far is in" in err)
    assert out == ""


def test_a_second_one_ends_it_at_once(tmp_path: Path) -> None:
    code = (
        "import os, signal, time\n"
        "from fastnst.cli import interrupts as module\n"
        "from fastnst.cli.interrupts import Interrupts\n"
        "module.AT_ONCE = 0.0\n"
        "with Interrupts() as interrupts:\n"
        "    interrupts.after_step(None)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    assert interrupts.received == signal.SIGINT\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT
    assert done.stderr.strip().splitlines() == [
        "fastnst: stopping after this iteration; once more to end at once"
    ]


def test_what_comes_soon_after_a_signal_is_no_second_one(monkeypatch: Any) -> None:
    """SIGHUP comes twice from a terminal that is closed, SIGTERM twice from ``timeout``."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr(module.time, "sleep", sleep)
    monkeypatch.setattr(module, "AT_ONCE", 0.5)
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:  # noqa: PT012
        interrupts.after_step()
        os.kill(os.getpid(), signal.SIGHUP)
        assert slept == [0.5]
        assert interrupts.exit_code == 129
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # from now on it ends at once
        interrupts.after_step()


def test_two_that_come_together_are_no_traceback(monkeypatch: Any) -> None:
    """Python calls the second handler after the first, and complains where it has gone."""
    complaints: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    both = {signal.SIGINT, signal.SIGTERM}
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:  # noqa: PT012
        interrupts.after_step()
        signal.pthread_sigmask(signal.SIG_BLOCK, both)
        for number in both:
            signal.pthread_kill(threading.get_ident(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
        assert interrupts.received in both
        interrupts.after_step()
    assert complaints == []


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_what_batch_systems_and_limits_send(name: str) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:  # noqa: PT012
        interrupts.after_step()
        os.kill(os.getpid(), number)
        assert interrupts.exit_code == 128 + number
        then = signal.SIG_IGN if name == "SIGXCPU" else signal.SIG_DFL
        assert signal.getsignal(number) == then  # the limit of time is told each second
        interrupts.after_step()
    assert signal.getsignal(number) == (signal.SIG_IGN if name == "SIGXCPU" else before)
    signal.signal(number, before)


def test_a_rank_that_is_ended_by_its_launcher_says_nothing(capfd) -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts(of_rank=True) as interrupts:  # noqa: PT012
        interrupts.after_step()
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.received == signal.SIGTERM
        interrupts.after_step()
    assert capfd.readouterr() == ("", "")


def test_a_rank_that_is_to_stop_all_says_that_it_will(capfd) -> None:
    """The launcher passes Ctrl-C on to one of them."""
    with pytest.raises(KeyboardInterrupt), Interrupts(of_rank=True) as interrupts:  # noqa: PT012
        interrupts.after_step()
        os.kill(os.getpid(), signal.SIGINT)
        interrupts.after_step()
    assert "stopping after this iteration" in capfd.readouterr().err


@pytest.mark.slow
def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As behind nohup, and Ctrl-C behind ``&`` in a script."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    process = start(
        tmp_path, "stylize", *PAIR, "-o", "o.png", *ENDLESS, "--save-every", "2",
        preexec_fn=ignore,
    )  # fmt: skip
    wait_for(tmp_path / "o-00002.png", process)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    wait_for(tmp_path / "o-00008.png", process)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143


@pytest.mark.slow
def test_a_batch_stops_and_goes_on(tmp_path: Path) -> None:
    arguments = ["batch", "sample:harbour", "-s", "sample:swirl", "-o", "out", *ENDLESS,
                 "--checkpoint-every", "2"]  # fmt: skip
    process = start(tmp_path, *arguments)
    wait_for(tmp_path / "out" / ".harbour-swirl.png.checkpoint", process)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert "interrupted; 0 done" in err
    assert not (tmp_path / "out" / "harbour-swirl.png").exists()
    assert not list((tmp_path / "out").glob(".*.part"))


def lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_no_worker_outlives_its_batch(tmp_path: Path, name: str) -> None:
    process = start(
        tmp_path, "batch", "sample:harbour", "sample:lighthouse", "-s", "sample:swirl", "-o", "out",
        *ENDLESS, "--checkpoint-every", "2", "--workers", "2", "--threads", "2",
    )  # fmt: skip
    for content in ("harbour", "lighthouse"):
        wait_for(tmp_path / "out" / f".{content}-swirl.png.checkpoint", process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=60)  # they have its stderr too: it closes with them
    deadline = time.monotonic() + 30  # whoever inherits them may not have buried them yet
    while any(map(lives, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(lives, children))
    if name == "SIGINT":
        assert process.returncode == 130, err
        assert "interrupted; 0 done" in err
        assert "Traceback" not in err
        assert not list((tmp_path / "out").glob(".*.claim"))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs setsid of util-linux")
def test_a_terminal_that_is_closed(tmp_path: Path) -> None:
    """The shell passes SIGHUP on, the system sends one too, and the bar has no place any more."""
    ours, its = os.openpty()
    shell = subprocess.Popen(
        ["setsid", "--ctty", "bash", "--norc", "--noprofile", "-i"],
        stdin=its, stdout=its, stderr=its, cwd=tmp_path, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(its)
    loud = [word for word in ENDLESS if word != "-q"]
    words = [sys.executable, "-m", "fastnst", "stylize", *PAIR, "-o", "o.png", *loud,
             "--save-every", "2"]  # fmt: skip
    os.write(ours, f"{shlex.join(words)}\n".encode())
    deadline = time.monotonic() + 90
    while not (tmp_path / "o-00002.png").exists() and time.monotonic() < deadline:
        if select.select([ours], [], [], 0.05)[0]:
            os.read(ours, 4096)
    os.close(ours)
    shell.wait(60)
    while not (tmp_path / "o.png").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with Image.open(tmp_path / "o.png") as image:
        image.load()


def test_a_signal_while_the_result_is_saved_waits() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(BaseException) as caught, Interrupts() as interrupts:  # noqa: PT012, PT011
        interrupts.after_step(None)
        os.kill(os.getpid(), signal.SIGTERM)  # nothing is raised here
        saved = True
        interrupts.leave()
    assert saved
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_before_the_first_step_and_at_rest_it_acts_at_once() -> None:
    for step in (False, True):
        with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:  # noqa: PT012
            if step:
                interrupts.after_step(None)
                interrupts.at_rest()
            os.kill(os.getpid(), signal.SIGHUP)
        assert interrupts.exit_code == 129
