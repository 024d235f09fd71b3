"""Inputs that are not there, or cannot be what they are taken for, are named in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastnst import cli
from fastnst.cli.inputs import check_exists, check_layers, check_pictures, taken_for_option
from fastnst.errors import InvalidInput
from fastnst.settings.settings import Settings


def test_what_may_be_there(photo) -> None:
    check_pictures(str(photo("a.png")), ["sample:swirl", "-"], None)
    check_exists(photo("a.png"), "checkpoint")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "a picture's name is empty"),
        ("data:" + "x" * 300, "is an address"),
        ("no.jpg", "no.jpg does not exist"),
        ("folder", "folder is a folder; a picture is needed"),
        ("sample:harbor", "did you mean 'harbour'"),
        ("https://example.org/a.jpg", "is an address: download the picture and name the file"),
        ("HTTP://example.org/a.jpg", "is an address"),
        ("data:image/png;base64,AAAA", "is an address"),
        ("x" * 5000, "cannot be read: File name too long"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("loop", "cannot be read: Too many levels of symbolic links"),
        ("file.png/more", "cannot be read: Not a directory"),
    ],
)
def test_what_may_not(tmp_path: Path, monkeypatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file.png").touch()
    Path("loop").symlink_to("loop")
    with pytest.raises(InvalidInput) as caught:
        check_pictures("sample:ink", [name])
    assert message in str(caught.value)


def test_a_file_may_look_like_an_address(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data:a.png").touch()
    check_pictures("data:a.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--init", "no.png"], "init: no.png does not exist (or use noise, content or matched)"),
        (["--init", "."], "init: . is a folder; a picture is needed (or use noise, content or"),
        (["--weights", "no.pth"], "weights: no.pth does not exist (or use "),
        (["--weights", "."], "weights: . is a folder; a file is needed (or use "),
        (["--resume", "."], "checkpoint . is a folder; a file is needed"),
        (["--init", "-"], "- is named 2 times"),
    ],
)
def test_files_of_settings_are_looked_for_at_once(
    photo, monkeypatch, capsys, options: list[str], message: str
) -> None:
    monkeypatch.chdir(photo("s.png").parent)
    content = "-" if "-" in options else "s.png"
    assert cli.run_app(["stylize", content, "s.png", "-o", "o.png", *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"fastnst: {message}")
    assert said.count("\n") == 1


def test_a_slash_behind_a_file_is_no_picture(photo) -> None:
    with pytest.raises(InvalidInput, match=r"s\.png/ cannot be read: Not a directory"):
        check_exists(f"{photo('s.png')}/")


def test_a_batch_looks_for_its_files_at_once(photo, monkeypatch, capsys) -> None:
    monkeypatch.chdir(photo("s.png").parent)
    for contents, style in (("no.png", "s.png"), ("s.png", "no.png")):
        assert cli.run_app(["batch", contents, "-s", style, "-o", "out"]) == 2
        assert capsys.readouterr().err == "fastnst: no.png does not exist\n"
    assert cli.run_app(["batch", "-", "-s", "s.png", "-o", "out"]) == 2
    assert "no picture from standard input" in capsys.readouterr().err


def test_a_name_that_begins_with_a_dash_is_explained(photo, monkeypatch, capsys) -> None:
    """Read as options, such names end in a line on options that says nothing of a file."""
    monkeypatch.chdir(photo("-dash.png").parent)
    photo("--long.png")
    for name in ("-dash.png", "--long.png"):
        assert cli.run_app(["stylize", name, "sample:swirl"]) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last == f"fastnst: {name} is read as an option: write ./{name} for the file"
    assert cli.run_app(["stylize", "./-dash.png", "no.jpg", "-o", "-out.png"]) == 2
    assert capsys.readouterr().err == "fastnst: no.jpg does not exist\n"


def test_only_names_of_files_are_taken_for_options_by_mistake(photo, monkeypatch) -> None:
    monkeypatch.chdir(photo("-dash.png").parent)
    assert taken_for_option(["stylize", "--sizee", "-", "-dash.png"]) == "-dash.png"
    assert taken_for_option(["--sizee", "-x", "-", "a\0b", "-" * 5000]) is None
    assert taken_for_option(["a.png", "--", "-dash.png"]) is None


def test_layers_are_those_of_the_network_that_is_named() -> None:
    deep = ("relu3_4",)  # which VGG-16 lacks
    for weights in ("vgg19", "torchvision", "own.pth"):
        check_layers(Settings(weights=weights, content_layers=deep))
    with pytest.raises(InvalidInput, match="relu3_4"):
        check_layers(Settings(weights="torchvision-vgg16", content_layers=deep))
