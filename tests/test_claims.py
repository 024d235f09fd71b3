"""Claims on outputs: one process at a time, and none after its death."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from fastnst.claims import abandon, claim, claim_path

HOLD = """
import sys
from pathlib import Path
from fastnst.claims import claim
with claim(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


def test_one_of_two_holds_it(tmp_path: Path) -> None:
    output = tmp_path / "a.png"
    with claim(output) as first, claim(output) as second, claim(tmp_path / "b.png") as other:
        assert (first, second, other) == (True, False, True)
        assert claim_path(output).exists()
    with claim(output) as again:
        assert again
    assert not list(tmp_path.iterdir())


def test_it_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    output = tmp_path / "a.png"
    command = [sys.executable, "-c", HOLD, str(output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        with claim(output) as mine:
            assert not mine
        process.kill()
        process.wait()
    assert claim_path(output).exists()  # its file is left, the claim is not
    with claim(output) as mine:
        assert mine
    assert not list(tmp_path.iterdir())


def test_an_exception_gives_it_up(tmp_path: Path) -> None:
    output = tmp_path / "a.png"
    try:
        with claim(output):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    with claim(output) as mine:
        assert mine


def test_where_no_lock_can_be_taken_the_file_may_be_made(tmp_path: Path) -> None:
    for output in (tmp_path / "missing" / "a.png", Path("nul\0.png")):
        with claim(output) as mine:
            assert mine


def test_a_long_name_has_a_claim_too(tmp_path: Path) -> None:
    output = tmp_path / ("é" * 120 + ".png")  # 244 bytes
    with claim(output), claim(output) as second:
        assert not second


def test_who_waits_has_it_after_the_other(tmp_path: Path) -> None:
    output = tmp_path / "a.png"
    command = [sys.executable, "-c", HOLD, str(output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"True\n"
        with claim(output, seconds=0.05) as mine:
            assert not mine
        threading.Timer(0.2, process.stdin.close).start()
        with claim(output, seconds=-1) as mine:
            assert mine


def test_outputs_whose_long_names_begin_alike_are_claimed_apart(tmp_path: Path) -> None:
    first, second = (tmp_path / f"{'m' * 240}{end}.png" for end in "ab")
    with claim(first) as mine, claim(second) as yours:
        assert (mine, yours) == (True, True)
        assert len([path for path in tmp_path.iterdir() if path.name.endswith(".claim")]) == 2
    assert not list(tmp_path.iterdir())


def test_a_claim_makes_no_folder(tmp_path: Path) -> None:
    with claim(tmp_path / "missing" / "a.png") as mine:
        assert mine
    assert not list(tmp_path.iterdir())


def test_a_process_that_ends_here_and_now_leaves_no_file(tmp_path: Path) -> None:
    with claim(tmp_path / "a.png"):
        assert list(tmp_path.iterdir())
        abandon()
        assert not list(tmp_path.iterdir())
