"""A scratch folder is looked at before the work, and a file in it leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastnst.errors import InvalidInput
from fastnst.strips.scratch import check_scratch, open_scratch, scratch_folder


def test_a_file_has_no_name_and_is_gone_when_it_is_closed(tmp_path: Path) -> None:
    with open_scratch(tmp_path) as file:
        file.write(b"x")
        assert os.listdir(tmp_path) == []
    check_scratch(tmp_path)
    assert os.listdir(tmp_path) == []


def test_there_is_room_or_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_000_000_000))
    check_scratch(tmp_path, 2_000_000_000)
    with pytest.raises(InvalidInput, match=r"2\.0 GB are free, .* needs 2\.5 GB; .*--scratch"):
        check_scratch(tmp_path, 2_500_000_000)


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("none", "file", "file/below", "loop", "x" * 300, "\0"):
        with pytest.raises(InvalidInput, match="scratch folder .*(no folder|cannot be written)"):
            check_scratch(tmp_path / name)


def test_one_that_takes_no_files_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(InvalidInput, match="cannot be written to: Permission denied"):
        check_scratch(tmp_path)


def test_the_folder_for_temporary_files_is_looked_at_only_if_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    check_scratch(None)
    with pytest.raises(InvalidInput, match="none does not exist"):
        check_scratch(None, 1)

    def refuse() -> None:
        raise FileNotFoundError(2, "No usable temporary directory found in []")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    with pytest.raises(InvalidInput, match="no folder for temporary files"):
        scratch_folder(None)
