"""The size of a result is known before anything is decoded, or bounded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from fastnst.errors import InvalidInput
from fastnst.inputs.sizes import result_size
from helpers.pictures import smooth


def test_it_follows_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(smooth(60, 45)).save(path)
    assert result_size(path, 40) == (40, 30)
    assert result_size(str(path), 0) == (60, 45)
    assert result_size(str(path), None) == (512, 384)


@pytest.mark.parametrize("picture", ["sample:harbour", "-", "no.png", smooth(9, 8)])
def test_what_cannot_be_looked_into_has_a_bound(picture) -> None:
    assert result_size(picture, 100) == (100, 100)
    assert result_size(picture, 0) is None


def test_a_pipe_is_not_touched(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert result_size(tmp_path / "pipe", 64) == (64, 64)  # opening it would wait for ever


def test_what_is_no_picture_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"words")
    with pytest.raises(InvalidInput, match=r"a\.png"):
        result_size(tmp_path / "a.png", 64)
