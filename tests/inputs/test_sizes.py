"""The size of a result is known before anything is decoded, or bounded."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from fastnst import samples
from fastnst.errors import InvalidInput
from fastnst.images import large
from fastnst.images.pixels import scaled_size
from fastnst.inputs.sizes import most_pixels, result_size
from helpers.pictures import smooth


def test_it_follows_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(smooth(60, 45)).save(path)
    assert result_size(path, 40) == (40, 30)
    assert result_size(str(path), 0) == (60, 45)
    assert result_size(str(path), None) == (512, 384)


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_the_size_of_a_sample_is_known_before_it_is_drawn(name: str) -> None:
    drawn, side = samples.load(name), 200
    assert samples.SAMPLES[name].size == drawn.size
    assert result_size(f"sample:{name}", side) == scaled_size(*drawn.size, side)


@pytest.mark.parametrize("picture", ["-", "no.png", smooth(9, 8)])
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


def test_how_much_is_decoded_follows_what_was_asked_for() -> None:
    assert most_pixels(None) == most_pixels(0) == most_pixels(512) == large.LARGEST
    assert most_pixels(20_000) == 400_000_000  # no picture with this long side has more
    assert most_pixels(20_000, 250) == 250_000_000  # a limit by name goes before
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InvalidInput, match="max_megapixels is"):
            most_pixels(512, wrong)


def test_a_picture_beyond_pillows_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size is known without decoding it, also where it is turned; or what is missing is."""
    pytest.importorskip("pyvips")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth(90, 60)).save(tmp_path / "a.jpg", exif=exif)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert result_size(tmp_path / "a.jpg", 45) == (30, 45)
    monkeypatch.setattr(large, "LARGEST", 4000)
    assert result_size(tmp_path / "a.jpg", 90) == (60, 90)
    with pytest.raises(InvalidInput, match=r"a\.jpg has more than 0\.004 megapixels: 0\.0054"):
        result_size(tmp_path / "a.jpg", 45)
    assert result_size(tmp_path / "a.jpg", 45, 0.0054) == (30, 45)
    Image.fromarray(smooth(90, 60)).save(tmp_path / "a.bmp")
    with pytest.raises(InvalidInput, match=r"a\.bmp has more than 0 megapixels"):
        result_size(tmp_path / "a.bmp", 90)
    monkeypatch.setitem(sys.modules, "pyvips", None)
    with pytest.raises(InvalidInput, match=r"pip install 'fastnst\[large\]'"):
        result_size(tmp_path / "a.jpg", 90)
