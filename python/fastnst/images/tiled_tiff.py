"""Large pictures out: tiled BigTIFF, written from rows as they come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from fastnst import files
from fastnst.errors import InvalidInput, OutputFailed
from fastnst.images.pixels import Pixels
from fastnst.images.rows import RowSource

TILE = 512  # side of a tile in pixels
_LEVEL = 6  # of zlib's compression
_STRIP_BYTES = 1 << 22  # of float32 pixels rounded, or halved for a pyramid, at a time


def save_tiff(
    source: RowSource,
    path: str | os.PathLike[str],
    bits: int = 8,
    pyramid: bool = False,
    description: str = "",
) -> Path:
    """Write a picture as a tiled BigTIFF file, RGB in sRGB, compressed without loss.

    One row of tiles is held in memory. The file is put in place in one go: a kill or a full disk
    leaves what was there before.

    Args:
        source: The picture.
        path: The file, ``.tif`` or ``.tiff``.
        bits: 8 or 16 a channel.
        pyramid: Add reduced pictures, each half as large, down to one tile, which viewers show
            first. Takes a third more space.
        description: Text for the tag ImageDescription, in ASCII; other characters become ``?``.

    Raises:
        InvalidInput: for another suffix, or bits other than 8 and 16.
        OutputFailed: if the file cannot be written.
    """
    target = Path(path)
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise InvalidInput(f"output {target}: a tiled TIFF has a name ending in .tif or .tiff")
    if bits not in (8, 16):
        raise InvalidInput(f"bits is {bits!r}: expected 8 or 16")
    import tifffile  # only here: most pictures are no TIFFs

    levels = [source]
    while pyramid and max(levels[-1].height, levels[-1].width) > TILE:
        levels.append(HalvedRows(levels[-1]))
    try:
        with files.beside(target) as draft:
            with tifffile.TiffWriter(draft, bigtiff=True) as writer:
                for index, level in enumerate(levels):
                    _write_level(writer, level, bits, index, len(levels) - 1, description)
            files.put_in_place(draft, target)
    except OSError as error:
        raise OutputFailed(f"{target} could not be written: {error.strerror or error}") from error
    return target


class HalvedRows:
    """A picture at half its size: means of 2×2 pixels, of fewer where an odd edge has no more.

    Args:
        source: The picture.
    """

    def __init__(self, source: RowSource) -> None:
        self._source = source
        self.height, self.width = -(-source.height // 2), -(-source.width // 2)

    def rows(self, start: int, stop: int) -> Pixels:
        """The rows ``start`` to ``stop - 1``; a few source rows are in memory at a time."""
        result: Pixels = np.empty((stop - start, self.width, 3), np.float32)
        step = max(1, _STRIP_BYTES // (24 * self._source.width))
        for top in range(start, stop, step):
            bottom = min(top + step, stop)
            result[top - start : bottom - start] = self._halved(top, bottom)
        return result

    def _halved(self, start: int, stop: int) -> Pixels:
        pixels = self._source.rows(2 * start, min(2 * stop, self._source.height))
        if pixels.shape[0] % 2 or pixels.shape[1] % 2:
            padding = ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0))
            pixels = np.pad(pixels, padding, mode="edge")
        upper = pixels[::2, ::2] + pixels[::2, 1::2]
        lower = pixels[1::2, ::2] + pixels[1::2, 1::2]
        halved: Pixels = (upper + lower) * np.float32(0.25)
        return halved


def _write_level(
    writer: Any, source: RowSource, bits: int, index: int, reduced: int, description: str
) -> None:
    """Write the picture (level 0, with room for ``reduced`` more) or one of those more."""
    options: dict[str, Any] = {}
    if index == 0:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        options.update(iccprofile=profile, subifds=reduced, software="fastnst")
        if description:
            options["description"] = description.encode("ascii", "replace").decode()
    else:
        options["subfiletype"] = 1  # a reduced picture of another one
    writer.write(
        _tiles(source, bits),
        shape=(source.height, source.width, 3),
        dtype=np.uint8 if bits == 8 else np.uint16,
        tile=(TILE, TILE),
        photometric="rgb",
        compression="zlib",
        compressionargs={"level": _LEVEL},
        predictor=True,
        metadata=None,
        maxworkers=1,
        **options,
    )


def _tiles(source: RowSource, bits: int) -> Iterator[NDArray[Any]]:
    """The tiles from left to right and from top to bottom, zeros beyond the picture's edges."""
    dtype, white = (np.uint8, 255) if bits == 8 else (np.uint16, 65535)
    step = max(1, _STRIP_BYTES // (12 * source.width))
    for top in range(0, source.height, TILE):
        row: NDArray[Any] = np.zeros((TILE, -(-source.width // TILE) * TILE, 3), dtype)
        bottom = min(top + TILE, source.height)
        for start in range(top, bottom, step):
            stop = min(start + step, bottom)
            row[start - top : stop - top, : source.width] = (
                source.rows(start, stop) * white
            ).round()
        for left in range(0, source.width, TILE):
            yield np.ascontiguousarray(row[:, left : left + TILE])
