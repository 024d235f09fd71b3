"""Pictures out: formats, and whether a file can be written before the work starts."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import PngImagePlugin

from fastnst import files
from fastnst.errors import InvalidInput
from fastnst.images.deep_colour import encode_png16, encode_tiff16
from fastnst.images.pixels import Pixels, to_pil

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
_SIXTEEN_BIT = ("PNG", "TIFF")


def check_output(path: str | os.PathLike[str], bits: int = 8, needed: int = 0) -> Path:
    """Make sure, before the work starts, that a picture can be written.

    Args:
        path: Where it will go.
        bits: 8, or 16 for PNG and TIFF.
        needed: Bytes that the file may take at most.

    Raises:
        InvalidInput: for an unknown format, a folder, a missing or unwritable folder, bits that the
            format does not have, or too little space.
    """
    target = check_format(Path(path), bits)
    files.check_writable(target, "output", needed)
    return target


def check_format(target: Path, bits: int = 8) -> Path:
    """Make sure that there is a picture format for a file's name, with so many bits.

    Raises:
        InvalidInput: if not.
    """
    kind = FORMATS.get(target.suffix.lower())
    if kind is None:
        raise InvalidInput(
            f"output {target}: unknown picture format {target.suffix!r}; "
            f"use a name ending in {', '.join(FORMATS)}"
        )
    if bits not in (8, 16):
        raise InvalidInput(f"bits is {bits!r}: expected 8 or 16")
    if bits == 16 and kind not in _SIXTEEN_BIT:
        raise InvalidInput(f"output {target}: {kind} has no 16-bit colour; use .png or .tiff")
    return target


def save_image(
    pixels: Pixels,
    path: str | os.PathLike[str],
    bits: int = 8,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Encode a picture and put it in place in one go: beside the target first, then renamed.

    Args:
        pixels: ``(H, W, 3)`` in [0, 1].
        path: Where; the suffix gives the format.
        bits: 8, or 16 for PNG and TIFF.
        metadata: Text entries for a PNG; other formats carry none.

    Raises:
        InvalidInput: for an unknown format, or bits that it does not have.
        OutputFailed: if it cannot be written; a file that was there before is left as it was.
    """
    target = check_format(Path(path), bits)
    files.write(target, encode(pixels, FORMATS[target.suffix.lower()], bits, metadata))
    return target


def encode(
    pixels: Pixels, kind: str, bits: int = 8, metadata: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a picture file; ``kind`` is one of Pillow's names in ``FORMATS``."""
    metadata = metadata or {}
    if bits == 16:
        values = (pixels * 65535).round().astype(np.uint16)
        return encode_png16(values, metadata) if kind == "PNG" else encode_tiff16(values)
    options: dict[str, Any] = {}
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        for key, text in metadata.items():
            info.add_itxt(key, text)
        options["pnginfo"] = info
    elif kind == "JPEG":
        options.update(quality=95, subsampling=0)
    elif kind == "WEBP":
        options.update(quality=95, method=4)
    elif kind == "TIFF":
        options.update(compression="tiff_deflate")
    buffer = io.BytesIO()
    to_pil(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
