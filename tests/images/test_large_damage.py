"""Pictures that are read by rows and are damaged, or odd: what libvips only notes is refused."""

from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from fastnst.errors import InvalidInput
from fastnst.images import large
from fastnst.images.decode import load_image
from fastnst.strips.storage import MemoryStore
from helpers.pictures import smooth

pytest.importorskip("pyvips")


def tiled(path: Path, **how: Any) -> None:
    rng = np.random.default_rng(0)
    tifffile.imwrite(
        path,
        rng.integers(0, 256, (300, 400, 3), np.uint8),
        photometric="rgb",
        tile=(64, 64),
        metadata=None,
        **how,
    )


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiled_tiff_that_is_cut_short_is_refused(tmp_path: Path, compression: str | None):
    path = tmp_path / "cut.tif"
    tiled(path, compression=compression)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with MemoryStore() as store, pytest.raises(InvalidInput, match=r"cut\.tif cannot be read"):
        large.open_large(path, store)


def test_a_broken_tile_is_refused(tmp_path: Path):
    path = tmp_path / "broken.tif"
    tiled(path, compression="zlib")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].dataoffsets[9]
    data[at : at + 40] = bytes(b ^ 0x5A for b in data[at : at + 40])
    path.write_bytes(bytes(data))
    with MemoryStore() as store, pytest.raises(InvalidInput, match="cannot be read"):
        large.open_large(path, store)


def test_a_damaged_number_of_bits_is_refused(tmp_path: Path):
    path = tmp_path / "bits.tif"
    tifffile.imwrite(
        path,
        np.full((64, 64, 3), 9000, np.uint16),
        photometric="rgb",
        metadata=None,
        description="x" * 900,
    )
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].tags[258].offset
    data[at + 4 : at + 8] = struct.pack("<I", 206)
    path.write_bytes(bytes(data))
    with MemoryStore() as store, pytest.raises(InvalidInput, match="number of bits is damaged"):
        large.open_large(path, store)


def test_a_png_is_turned_by_what_follows_its_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The standard allows its EXIF block there."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    Image.fromarray(smooth(96, 64)).save(data, "PNG", exif=exif)
    whole, chunks, at = data.getvalue(), [], 8
    while at < len(whole):
        size = 12 + int.from_bytes(whole[at : at + 4], "big")
        chunks.append(whole[at : at + size])
        at += size
    (block,) = (chunk for chunk in chunks if chunk[4:8] == b"eXIf")
    chunks.remove(block)
    path = tmp_path / "late.png"
    path.write_bytes(whole[:8] + b"".join([*chunks[:-1], block, chunks[-1]]))
    expected = load_image(path)
    assert expected.shape == (96, 64, 3)
    monkeypatch.setattr(large, "WHOLE", 100)
    with MemoryStore() as store:
        rows = large.open_large(path, store)
        assert np.array_equal(rows.rows(0, rows.height), expected)


def test_threads_see_the_damage_of_their_own_file(tmp_path: Path) -> None:
    """libvips notes the errors of all threads in one place."""
    good, bad = tmp_path / "good.tif", tmp_path / "bad.tif"
    tiled(good, compression="zlib")
    data = bytearray(good.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(byte ^ 0xFF for byte in data[middle : middle + 400])
    bad.write_bytes(data)

    def read(path: Path) -> bool:
        try:
            large.open_large(path, MemoryStore())
        except InvalidInput:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, [good, bad] * 150))
    assert found == [True, False] * 150
