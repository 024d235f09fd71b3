"""Files that are something else, empty, folders, pipes, devices, wherever one is named."""

from __future__ import annotations

import gc
import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from fastnst import cli

QUICK = ("--size", "24", "--iterations", "1", "--content-layers", "relu1_1", "--style-layers",
         "relu1_1")  # fmt: skip
READ = ("CONTENT", "STYLE", "--config", "--resume", "--init", "--weights", "--content-mask",
        "--style-mask")  # fmt: skip
WRITTEN = {"-o": ".png", "--plot": ".svg", "--video": ".mp4", "--checkpoint": "",
           "--save-config": ".toml"}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _leftovers_are_collected() -> None:
    """What earlier tests left open warns here, and not in a test where a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def place(tmp_path: Path, photo: Any, monkeypatch: Any) -> Path:
    """The working directory, with two pictures in it."""
    for seed, name in enumerate(("c.png", "s.png")):
        photo(name, 24, 18, seed)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def _quick(monkeypatch: Any, random_weights: Any) -> None:
    """Runs have random weights, to conv3_1."""
    monkeypatch.setattr("fastnst.run.prepare.load_weights", lambda *_: random_weights)


def refused(capsys: Any, *arguments: str) -> str:
    assert cli.run_app(arguments) == 2
    said: str = capsys.readouterr().err
    assert said.startswith("fastnst: ")
    assert said.count("\n") == 1
    return said


@pytest.mark.filterwarnings("error")  # each would be a line more
@pytest.mark.parametrize("option", READ)
@pytest.mark.parametrize("kind", ["empty", "folder", "socket", "binary"])
def test_what_is_read_is_a_file_of_its_kind(
    place: Path, capsys: Any, option: str, kind: str
) -> None:
    if (option, kind) == ("--config", "empty"):
        pytest.skip("an empty TOML file changes no setting")
    name = f"{kind}.pth" if option == "--weights" else kind
    if kind == "folder":
        Path(name).mkdir()
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as end:
            end.bind(name)
    else:
        Path(name).write_bytes(b"" if kind == "empty" else b"\x80\x04\x95\0\xff" * 40)
    pictures = ["c.png", "s.png"]
    if option in ("CONTENT", "STYLE"):
        pictures[option == "STYLE"] = name
        said = refused(capsys, "stylize", *pictures, "-o", "o.png", *QUICK)
    else:
        said = refused(capsys, "stylize", *pictures, "-o", "o.png", *QUICK, option, name)
    assert name in said
    assert not Path("o.png").exists()


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("option", WRITTEN)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_written_is_a_file_or_nothing(
    place: Path, capsys: Any, option: str, kind: str
) -> None:
    name = f"{kind}{WRITTEN[option]}"
    if kind == "pipe":
        os.mkfifo(name)
    elif kind == "device":
        Path(name).symlink_to("/dev/full")
    else:
        Path(name).mkdir()
        name = name if option != "-o" else f"{name}/."
    options = ["-o", "o.png"] if option != "-o" else []
    before = sorted(place.rglob("*"))
    if kind == "folder" and option == "-o":  # a new name in it
        assert cli.run_app(["stylize", "c.png", "s.png", *QUICK, "-q", option, name]) == 0
        return
    said = refused(capsys, "stylize", "c.png", "s.png", *options, *QUICK, option, name)
    assert name in said
    assert sorted(place.rglob("*")) == before


@pytest.mark.usefixtures("_quick")
def test_names_that_are_no_text_go_all_the_way(place: Path, capsys: Any) -> None:
    names = [
        os.fsdecode(b"\xff\xfe " + end) for end in (b"c.png", b"s.png", b"o.png", b"k", b"p.svg")
    ]
    Path("c.png").rename(names[0])
    Path("s.png").rename(names[1])
    code = cli.run_app(["stylize", names[0], names[1], "-o", names[2], "--checkpoint", names[3],
                        "--plot", names[4], "--json", "-q", *QUICK])  # fmt: skip
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert json.loads(printed.out)["output"] == names[2]
    assert all(Path(name).stat().st_size for name in names)
    code = cli.run_app(["sheet", names[0], "--vary", f"style={names[1]},{names[2]}", *QUICK, "-q",
                        "-o", os.fsdecode(b"\xff sheet.png")])  # fmt: skip
    assert code == 0
    assert Path(os.fsdecode(b"\xff sheet.png")).stat().st_size
