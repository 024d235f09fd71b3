"""Pictures out: encoded, and put in place in one go."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from fastnst import files
from fastnst.errors import InvalidInput
from fastnst.images.deep_colour import encode_png16
from fastnst.images.outputs import FORMATS, check_format, check_size, is_picture
from fastnst.images.pixels import Pixels, to_pil
from fastnst.images.rows import ImageRows, PixelRows, RowSource
from fastnst.images.tiled_tiff import save_tiff

TILED = 1 << 25  # pixels from which a TIFF file is a tiled BigTIFF


def save_image(
    pixels: Pixels,
    path: str | os.PathLike[str] | BinaryIO,
    bits: int = 8,
    metadata: Mapping[str, str] | None = None,
    format: str | None = None,
    pyramid: bool = False,
) -> Path | None:
    """Encode a picture and put it in place in one go: beside the target first, then renamed.

    Args:
        pixels: ``(H, W, 3)`` in [0, 1].
        path: Where; the suffix gives the format. Or a binary file that is open for writing.
        bits: 8, or 16 for PNG and TIFF.
        metadata: Text entries for a PNG; other formats carry none.
        format: ``png``, ``jpeg``, ``webp``, ``tiff`` or ``bmp``: needed for an open file, and
            instead of what the suffix says otherwise.
        pyramid: Whether a TIFF file also holds reduced pictures, each half as large, which viewers
            of large pictures show first. Such a file, and one of ``TILED`` pixels or more, is a
            tiled BigTIFF.

    Returns:
        The path, or None for an open file.

    Raises:
        InvalidInput: for an unknown format, bits or a size that it does not have, or an existing
            file that is no picture.
        OutputFailed: if it cannot be written; a file that was there before is left as it was, and
            the picture is saved under another name, which the error tells.
    """
    return save_rows(PixelRows(_checked(pixels)), path, bits, metadata, format, pyramid)


def save_rows(
    source: RowSource,
    path: str | os.PathLike[str] | BinaryIO,
    bits: int = 8,
    metadata: Mapping[str, str] | None = None,
    format: str | None = None,
    pyramid: bool = False,
) -> Path | None:
    """Do what ``save_image`` does for a picture that is read by rows.

    Of a tiled BigTIFF a few rows are in memory at a time; for any other file all of them are.

    Args:
        source: The picture, RGB in [0, 1]. One of 8 bits is encoded as it is.
        path: Where, as for ``save_image``.
        bits: 8, or 16 for PNG and TIFF.
        metadata: Text entries for a PNG; other formats carry none.
        format: As for ``save_image``.
        pyramid: Whether a TIFF file also holds reduced pictures.

    Returns:
        The path, or None for an open file.

    Raises:
        InvalidInput: as ``save_image``, and so are the other errors.
    """
    size = source.width, source.height
    if not isinstance(path, (str, os.PathLike)):
        if not callable(getattr(path, "write", None)):
            raise InvalidInput(
                f"output is of type {type(path).__name__}: expected a path or a binary file"
            )
        kind = _format(format, bits, size, pyramid)
        if pyramid:
            raise InvalidInput("a pyramid of pictures is written to a path, not to an open file")
        path.write(_encoded(source, kind, bits, metadata))
        return None
    if format is None:
        target = check_format(Path(path), bits, size, pyramid)
        kind = FORMATS[target.suffix.lower()]
    else:
        target, kind = Path(path), _format(format, bits, size, pyramid)
    with contextlib.suppress(OSError):  # writing says why, and saves the picture elsewhere
        files.check_kind(target, "output", is_picture, "picture")
    if kind == "TIFF" and is_tiled(size, pyramid):
        files.write_or_rescue(target, lambda path: save_tiff(source, path, bits, pyramid))
        return target
    data = _encoded(source, kind, bits, metadata)
    files.write_or_rescue(target, lambda path: files.write(path, data))
    return target


def _checked(pixels: Any) -> Pixels:
    """Pixels from anyone.

    Raises:
        InvalidInput: if they are no floats ``(H, W, 3)`` in [0, 1].
    """
    if not isinstance(pixels, np.ndarray):
        raise InvalidInput(f"pixels are of type {type(pixels).__name__}: expected a NumPy array")
    if pixels.dtype.kind != "f":
        raise InvalidInput(f"pixels are of dtype {pixels.dtype}: expected floats in [0, 1]")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise InvalidInput(f"pixels have the shape {pixels.shape}, expected (H, W, 3)")
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):  # also NaN
        raise InvalidInput(f"pixels have values from {low:g} to {high:g}, expected [0, 1]")
    # float16 ends at 65504, below the white of 16 bits
    return pixels.astype(np.float32) if pixels.dtype == np.float16 else pixels


def is_tiled(size: tuple[int, int], pyramid: bool = False) -> bool:
    """Whether a TIFF file of a picture, of this width and height, is a tiled BigTIFF."""
    return pyramid or size[0] * size[1] >= TILED


def _format(name: str | None, bits: int, size: tuple[int, int], pyramid: bool = False) -> str:
    if name is None:
        raise InvalidInput(
            "an open file needs a format: png, jpeg, webp, tiff or bmp, as in format='png'"
        )
    if not isinstance(name, str):
        raise InvalidInput(f"format is of type {type(name).__name__}: expected text such as 'png'")
    target = check_format(Path(f"picture.{name.lower().removeprefix('.')}"), bits, pyramid=pyramid)
    kind = FORMATS[target.suffix]
    check_size("the picture", kind, size, bits)
    return kind


def encode(
    pixels: Pixels, kind: str, bits: int = 8, metadata: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a picture file; ``kind`` is one of Pillow's names in ``FORMATS``."""
    if bits == 16:
        values = (pixels * 65535).round().astype(np.uint16)
        return encode_png16(values, metadata or {}) if kind == "PNG" else _encode_tiff16(values)
    return encode_8bit(to_pil(pixels), kind, metadata)


def encode_8bit(image: Image.Image, kind: str, metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a picture file with 8 bits; arguments as for ``encode``."""
    options: dict[str, Any] = {}
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        for key, text in (metadata or {}).items():
            info.add_itxt(key, text)
        options["pnginfo"] = info
    elif kind == "JPEG":
        options.update(quality=95, subsampling=0)
    elif kind == "WEBP":
        options.update(quality=95, method=4)
    elif kind == "TIFF":
        options.update(compression="tiff_deflate")
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _encoded(source: RowSource, kind: str, bits: int, metadata: Mapping[str, str] | None) -> bytes:
    if isinstance(source, ImageRows) and bits == 8:
        return encode_8bit(source.image, kind, metadata)
    return encode(source.rows(0, source.height), kind, bits, metadata)


def _encode_tiff16(values: NDArray[np.uint16]) -> bytes:
    """A TIFF file of ``(H, W, 3)`` uint16, one strip, deflate-compressed."""
    import tifffile  # only here: most results are no TIFFs

    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        values,
        byteorder="<",
        photometric="rgb",
        compression="zlib",
        rowsperstrip=values.shape[0],
        metadata=None,
        software=False,
    )
    return buffer.getvalue()
