"""What a format holds is known before the work; large TIFF files are tiled."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from fastnst import files
from fastnst.errors import InvalidInput, OutputFailed
from fastnst.images import encode, pixels
from fastnst.images.decode import load_image
from fastnst.images.encode import save_image
from fastnst.images.outputs import check_format, check_output
from fastnst.images.pixels import to_pil
from helpers.pictures import smooth

PIXELS = smooth(600, 83).astype(np.float32) / 255


@pytest.mark.parametrize(
    ("name", "bits", "size", "message"),
    [
        ("a.jpg", 8, (65_501, 10), "JPEG holds at most 65500 pixels a side"),
        ("a.webp", 8, (10, 16_384), "WEBP holds at most 16383 pixels a side"),
        ("a.bmp", 8, (40_000, 36_000), r"BMP in 8 bits holds at most 4\.3 GB .*40000×36000; use"),
        ("a.png", 16, (20_000, 18_000), r"PNG in 16 bits holds at most 2\.1 GB"),
    ],
)
def test_what_a_format_cannot_hold(
    name: str, bits: int, size: tuple[int, int], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_format(Path(name), bits, size)
    for other, deep in (("a.tif", 8), ("a.tiff", 16), ("a.png", 8)):
        check_format(Path(other), deep, size)


def test_a_pyramid_needs_a_tiff_and_a_third_more_space(tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("a.png", "a.jpg"):
        with pytest.raises(InvalidInput, match="holds no pyramid of pictures; use .tif"):
            check_output(tmp_path / name, pyramid=True)
        with pytest.raises(InvalidInput, match="holds no pyramid of pictures; use .tif"):
            save_image(PIXELS, tmp_path / name, pyramid=True)
    seen: list[int] = []
    monkeypatch.setattr(files, "check_writable", lambda *given: seen.append(given[2]))
    for pyramid in (False, True):
        check_output(tmp_path / "a.tif", 16, (4000, 3000), pyramid=pyramid)
    # 72 MB of pixels, and a hundredth for what hardly compresses
    assert seen[0] == pytest.approx(72e6, rel=0.02)
    assert seen[1] == seen[0] * 4 // 3


@pytest.mark.parametrize("bits", [8, 16])
def test_a_small_tiff_is_plain_and_a_large_one_is_tiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    white = 2**bits - 1
    found = {}
    for name, most, pyramid in (("a", 1 << 25, False), ("b", 83 * 600, False), ("c", 10, True)):
        monkeypatch.setattr(encode, "TILED", most)
        path = save_image(PIXELS, tmp_path / f"{name}.tif", bits, pyramid=pyramid)
        with tifffile.TiffFile(path) as file:
            found[name] = (file.is_bigtiff, len(file.series[0].levels))
            assert np.array_equal(file.pages[0].asarray(), (PIXELS * white).round())
    assert found == {"a": (False, 1), "b": (True, 1), "c": (True, 2)}


def test_a_large_result_is_saved_elsewhere_if_it_cannot_be_put_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.tif").write_bytes(b"")
    monkeypatch.setattr(encode, "TILED", 10)
    put = files.put_in_place

    def fail(draft: Path, target: Path) -> None:
        if target.name == "a.tif":
            raise OSError(28, "No space left on device")
        put(draft, target)

    monkeypatch.setattr(files, "put_in_place", fail)
    with pytest.raises(OutputFailed, match=r"No space left on device; it was saved as .*a-saved-"):
        save_image(PIXELS, tmp_path / "a.tif")
    (kept,) = [name for name in os.listdir(tmp_path) if name.startswith("a-saved-")]
    with Image.open(tmp_path / kept) as image:
        assert np.array_equal(np.asarray(image), np.asarray(to_pil(PIXELS)))


def test_rounding_by_strips_is_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "STRIP_PIXELS", 1700)
    assert np.array_equal(np.asarray(to_pil(PIXELS)), (PIXELS * 255).round().astype(np.uint8))


FLOATS = np.full((8, 8, 3), 0.5, np.float32)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.full((8, 8, 3), np.nan, np.float32), "values from nan to nan"),
        (np.full((8, 8, 3), 1.01), r"values from 1\.01 to 1\.01, expected \[0, 1\]"),
        (np.full((8, 8, 3), -0.1), "values from -0.1"),
        (np.full((8, 8, 3), 200, np.uint8), "dtype uint8"),
        (Image.new("RGB", (4, 4)), "type Image"),
        (FLOATS.tolist(), "type list"),
        (np.zeros((8, 8, 4)), r"shape \(8, 8, 4\)"),
        (np.zeros((8, 8)), "shape"),
        (np.zeros((0, 8, 3)), "shape"),
    ],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_what_is_no_picture_is_not_saved(
    given: Any, message: str, bits: int, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=message):
        save_image(given, tmp_path / "a.png", bits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("bits", [8, 16])
def test_halves_are_as_white_as_they_say(bits: int, tmp_path: Path) -> None:
    save_image(np.full((4, 4, 3), 1, np.float16), tmp_path / "a.png", bits)
    assert (load_image(tmp_path / "a.png") == 1).all()


def test_a_pyramid_goes_where_one_can_be(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="to a path, not to an open file"):
        save_image(FLOATS, io.BytesIO(), format="tiff", pyramid=True)
    with pytest.raises(InvalidInput, match="PNG holds no pyramid"):
        save_image(FLOATS, tmp_path / "a", format="png", pyramid=True)
    with pytest.raises(InvalidInput, match="format is of type int"):
        save_image(FLOATS, tmp_path / "a", format=5)
