"""Pipes as pictures, and devices that take nothing, from end to end."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fastnst.cli import run_app
from helpers.pictures import smooth
from helpers.streams import on_stdin

QUICK = ["--size", "32", "--iterations", "1", "-q", "--engine", "torch",
         "--style-layers", "relu1_1", "--content-layers", "relu1_1"]  # fmt: skip
FASTNST = f"{sys.executable} -m fastnst"
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("c.png", "s.png", "i.png")):
        Image.fromarray(smooth(32, 24, seed)).save(tmp_path / name)
    return tmp_path


def shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "cat c.png | {} stylize - s.png -o o.png {}",
        "cat c.png | {} stylize /dev/stdin s.png -o o.png {}",
        "{} stylize /dev/stdin s.png -o o.png {} < c.png",
        "{} stylize <(cat c.png) <(cat s.png) --init <(cat i.png) -o o.png {}",
        "cat s.png | {} texture - -o o.png {}",
        "cat c.png | {} reconstruct - -o o.png {}",
    ],
)
def test_a_pipe_is_a_picture(folder: Path, line: str) -> None:
    done = shell(folder, line.format(FASTNST, " ".join(QUICK)))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    with Image.open(folder / "o.png") as image:
        assert image.size == (32, 24)


def test_a_pipe_with_nothing_in_it_is_one_line(folder: Path) -> None:
    done = shell(folder, f"true | {FASTNST} stylize - s.png -o o.png {' '.join(QUICK)}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == ["fastnst: - is empty"]
    assert not (folder / "o.png").exists()


@pytest.mark.parametrize(
    ("data", "pictures", "message"),
    [
        ("c.png", ["-", "-"], "- is named 2 times, and standard input can be read once"),
        (None, ["-", "s.png"], "- is not a picture"),
        (None, ["/dev/null", "s.png"], "/dev/null is a device"),
        (None, ["/dev/fd/977", "s.png"], "/dev/fd/977 does not exist"),
    ],
)
def test_what_is_no_picture_is_one_line(
    folder: Path, monkeypatch, capsys, data: str | None, pictures: list[str], message: str
) -> None:
    monkeypatch.chdir(folder)
    with on_stdin(b"words\n" if data is None else Path(data).read_bytes()):
        assert run_app(["stylize", *pictures, "-o", "o.png", *QUICK]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert message in said
    assert not Path("o.png").exists()


class Gone(io.StringIO):
    """A terminal that was closed: it takes nothing."""

    def isatty(self) -> bool:
        return True

    def write(self, _: str) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def flush(self) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("command", ["stylize c.png s.png -o", "batch c.png -s s.png -o"])
def test_a_terminal_that_was_closed_costs_no_picture(
    folder: Path, monkeypatch: Any, random_weights: Any, command: str
) -> None:
    """As behind nohup, whose bar goes on."""
    monkeypatch.setattr("fastnst.run.prepare.load_weights", lambda *_: random_weights)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.chdir(folder)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", Gone())
        loud = [word for word in QUICK if word != "-q"]
        name = "o.png" if command.startswith("stylize") else "out"
        code = run_app([*command.split(), name, *loud])
    assert code == 0
    with Image.open("o.png" if name == "o.png" else "out/c-s.png") as image:
        image.load()


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_no_file_gets_the_number_of_a_stream_that_is_closed(folder: Path, closed: str) -> None:
    """Or what is told on stderr would be written into a picture."""
    code = (
        "from fastnst.__main__ import _open_streams; _open_streams(); import os; "
        "assert open('x', 'wb').fileno() > 2; "
        "assert all(map(os.get_inheritable, range(3)))"
    )
    done = shell(folder, f'{sys.executable} -c "{code}" {closed}')
    assert done.returncode == 0, done.stderr


@needs_full
@pytest.mark.parametrize(
    ("arguments", "saved"),
    [
        ("stylize c.png s.png -o o.png --json", "o.png"),
        ("stylize c.png s.png --estimate", None),
        ("batch c.png -s s.png -o out --json", "out/c-s.png"),
    ],
)
def test_a_full_device_behind_stdout(folder: Path, arguments: str, saved: str | None) -> None:
    done = shell(folder, f"{FASTNST} {arguments} {' '.join(QUICK)} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "fastnst: the output could not be written: No space left on device\n"
    if saved is not None:  # what was made is there
        with Image.open(folder / saved) as image:
            image.load()


@pytest.mark.slow
def test_json_goes_through_every_encoding(folder: Path) -> None:
    (folder / "c.png").rename(folder / "α →.png")
    line = (
        f"PYTHONIOENCODING=ascii {FASTNST} stylize α*.png s.png -o ×.png --json {' '.join(QUICK)}"
    )
    done = shell(folder, line)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["output"] == "×.png"
    line = f"PYTHONIOENCODING=ascii {FASTNST} batch α*.png -s s.png -o out --json {' '.join(QUICK)}"
    done = shell(folder, line)
    assert json.loads(done.stdout)["content"] == "α →.png"
    data = io.BytesIO((folder / "out" / "α →-s.png").read_bytes())
    assert Image.open(data).size == (32, 24)
