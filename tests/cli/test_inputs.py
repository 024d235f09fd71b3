"""Inputs that are not there, or cannot be what they are taken for, are named in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastnst.cli.inputs import check_exists, check_pictures
from fastnst.errors import InvalidInput


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
