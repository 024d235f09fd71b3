"""Files are whole or not there."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fastnst import files
from fastnst.errors import OutputFailed


def test_a_file_is_replaced_in_one_go(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")
    reader = target.open("rb")  # as another program may have it open
    files.write(target, b"new")
    assert reader.read() == b"old"
    assert target.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_what_fails_leaves_the_old_file_and_no_draft(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputFailed, match="a.txt could not be written: No space left"):
        files.write(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_drafts_that_a_kill_left_are_swept_away_later(tmp_path: Path) -> None:
    target = tmp_path / "a[1].txt"  # brackets mean something to a glob
    left = tmp_path / ".a[1].txt.77.part"
    folder = tmp_path / ".a[1].txt.78.part"
    fresh = tmp_path / ".a[1].txt.79.part"
    other = tmp_path / ".b.txt.77.part"
    folder.mkdir()
    for path in (left, folder / "draft", fresh, other):
        path.write_bytes(b"half")
    long_ago = time.time() - 2 * files.ABANDONED
    for path in (left, folder / "draft", folder, other):
        os.utime(path, (long_ago, long_ago))
    files.write(target, b"whole")
    assert {p.name for p in tmp_path.iterdir()} == {"a[1].txt", fresh.name, other.name}
