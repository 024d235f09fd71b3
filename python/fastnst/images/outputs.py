"""Formats that pictures are written in, and whether a file can be written before the work starts.

Nothing here loads PyTorch, NumPy or Pillow: a name that cannot be written is refused at once.
"""

from __future__ import annotations

import os
from pathlib import Path

from fastnst import files
from fastnst.errors import InvalidInput
from fastnst.images.formats import READ, identify

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
LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}  # of libjpeg and of the format
MOST_BYTES = {"BMP": 4 << 30, "PNG": 2 << 30}  # of a file, and of the one chunk of 16-bit pixels


def check_output(
    path: str | os.PathLike[str],
    bits: int = 8,
    size: tuple[int, int] | None = None,
    needed: int = 0,
    pyramid: bool = False,
) -> Path:
    """Make sure, before the work starts, that a picture can be written.

    Args:
        path: Where it will go.
        bits: 8, or 16 for PNG and TIFF.
        size: Width and height of the picture, where they are known: for the format's own limits
            and the space that it may take.
        needed: Bytes that the file may take at most, where its size is not known.
        pyramid: Whether reduced pictures are written too, as for ``save_image``.

    Raises:
        InvalidInput: for an unknown format, a folder, a missing or unwritable folder, bits that the
            format does not have, a picture that is too large for it, too little space, or an
            existing file that is no picture.
    """
    target = check_format(Path(path), bits, size, pyramid)
    needed = needed if size is None else most_bytes(*size, bits) * (4 if pyramid else 3) // 3
    files.check_writable(target, "output", needed, is_picture, "picture")
    return target


def most_bytes(width: int, height: int, bits: int = 8) -> int:
    """The bytes that a picture's file takes at most: its pixels, hardly compressed; a record."""
    return round(width * height * 3 * bits / 8 * 1.01) + 64 * 1024


def is_picture(head: bytes) -> bool:
    """Whether a file begins like a picture of a format that is read."""
    return identify(head) in READ


def check_format(
    target: Path, bits: int = 8, size: tuple[int, int] | None = None, pyramid: bool = False
) -> Path:
    """Make sure that there is a picture format for a file's name, with so many bits and pixels.

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
    if pyramid and kind != "TIFF":
        raise InvalidInput(f"output {target}: {kind} holds no pyramid of pictures; use .tif")
    if size is not None:
        check_size(f"output {target}", kind, size, bits)
    return target


def check_size(label: str, kind: str, size: tuple[int, int], bits: int) -> None:
    """Make sure that a format holds a picture of a width and height.

    Args:
        label: What to call the picture in messages.
        kind: One of Pillow's names in ``FORMATS``.
        size: Width and height.
        bits: Of a colour: 8 or 16.

    Raises:
        InvalidInput: if not.
    """
    longest = LONGEST_SIDE.get(kind)
    if longest is not None and max(size) > longest:
        raise InvalidInput(
            f"{label}: {kind} holds at most {longest} pixels a side, the picture has "
            f"{size[0]}×{size[1]}; use .png or .tiff"
        )
    most = MOST_BYTES.get(kind) if kind == "BMP" or bits == 16 else None
    if most is not None and most_bytes(*size, bits) >= most:
        raise InvalidInput(
            f"{label}: {kind} in {bits} bits holds at most {most / 1e9:.1f} GB of pixels, the "
            f"picture has {size[0]}×{size[1]}; use .tif"
        )
