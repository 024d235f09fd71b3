"""Tiled BigTIFF from rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fastnst.errors import InvalidInput, OutputFailed
from fastnst.images import tiled_tiff
from fastnst.images.pixels import Pixels
from fastnst.images.rows import PixelRows
from fastnst.images.tiled_tiff import HalvedRows, save_tiff
from helpers.pictures import smooth

PIXELS: Pixels = smooth(1201, 701).astype(np.float32) / 255


@pytest.mark.parametrize("bits", [8, 16])
def test_a_file_holds_the_picture(tmp_path: Path, bits: int) -> None:
    path = save_tiff(PixelRows(PIXELS), tmp_path / "a.tif", bits, description="größe: 5")
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        page = file.pages[0]
        assert page.is_tiled
        assert page.asarray().dtype == (np.uint8 if bits == 8 else np.uint16)
        assert np.array_equal(page.asarray(), (PIXELS * (2**bits - 1)).round())
        assert page.description == "gr??e: 5"
        assert len(file.series[0].levels) == 1
    with Image.open(path) as image:  # other readers can read it, and know its colours
        assert image.size == (1201, 701)
        assert image.info["icc_profile"]
    assert os.listdir(tmp_path) == ["a.tif"]


def test_a_pyramid(tmp_path: Path) -> None:
    path = save_tiff(PixelRows(PIXELS), tmp_path / "a.tiff", pyramid=True)
    with tifffile.TiffFile(path) as file:
        levels = file.series[0].levels
        assert [level.shape for level in levels] == [(701, 1201, 3), (351, 601, 3), (176, 301, 3)]
        assert np.array_equal(levels[0].asarray(), (PIXELS * 255).round())
        # each level's pixel is the mean of those that it stands for
        small = levels[2].asarray().astype(np.float64)
        mean = PIXELS[:700, :1200].reshape(175, 4, 300, 4, 3).mean((1, 3)) * 255
        # rounded to whole levels: half of one, and float32 sums
        assert np.abs(small[:175, :300] - mean).max() <= 0.51


def test_halves_of_odd_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled_tiff, "_STRIP_BYTES", 1)
    pixels = np.arange(15, dtype=np.float32).reshape(3, 5, 1).repeat(3, 2) / 15
    half = HalvedRows(PixelRows(pixels))
    want = np.array([[3, 5, 6.5], [10.5, 12.5, 14]]) / 15
    np.testing.assert_allclose(half.rows(0, 2)[..., 0], want, atol=1e-7)
    np.testing.assert_allclose(half.rows(1, 2)[..., 0], want[1:], atol=1e-7)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"ending in \.tif or \.tiff"):
        save_tiff(PixelRows(PIXELS), tmp_path / "a.png")
    with pytest.raises(InvalidInput, match="expected 8 or 16"):
        save_tiff(PixelRows(PIXELS), tmp_path / "a.tif", bits=12)
    with pytest.raises(OutputFailed, match="could not be written: No such file or directory"):
        save_tiff(PixelRows(PIXELS), tmp_path / "none" / "a.tif")


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    # A limit on the size of files stands in for a disk that is full.
    (tmp_path / "a.tif").write_bytes(b"old")
    program = f"""
import resource, signal
import numpy as np
from fastnst.errors import OutputFailed
from fastnst.images.rows import PixelRows
from fastnst.images.tiled_tiff import save_tiff
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18))
noise = np.random.default_rng(0).random((1024, 1024, 3), dtype=np.float32)
try:
    save_tiff(PixelRows(noise), {str(tmp_path / "a.tif")!r})
except OutputFailed as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path}/a.tif could not be written: File too large\n"
    assert (tmp_path / "a.tif").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.tif"]
