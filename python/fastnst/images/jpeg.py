"""JPEG: pixels by Pillow, from a file without its metadata, which is read here within limits."""

from __future__ import annotations

import io
import re
from typing import BinaryIO

from PIL import Image

from fastnst.errors import InvalidInput
from fastnst.images import exif
from fastnst.images.levels import Levels, Opened, check_size, levels_of
from fastnst.images.srgb import Colours

_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")  # those below mean nothing, and have no length
_END = 0xD9
MOST_SCANS = 100  # a progressive picture has about ten; each takes the time of a whole picture
_SCAN, _COMMENT, _ADOBE, _JFIF = 0xDA, 0xFE, 0xEE, 0xE0
_PROFILE = b"ICC_PROFILE\0"


def open_jpeg(file: BinaryIO) -> Opened:
    """Read a JPEG's header; of a file with several pictures (MPO) that of the first.

    Raises:
        InvalidInput: if it is too large or has more scans than any picture needs.
    """
    data = file.read()
    pixels, segments = _split(data)
    if _scans(pixels) > MOST_SCANS:
        raise InvalidInput(f"has more than {MOST_SCANS} scans; save it anew")
    blocks = [s for s in segments if s.startswith(exif.PREFIX)]
    with Image.open(io.BytesIO(pixels), formats=("JPEG",)) as image:
        width, height = image.size
    check_size(width, height)

    def load() -> Levels:
        with Image.open(io.BytesIO(pixels), formats=("JPEG",)) as image:
            return levels_of(image, Colours(_profile(segments)))

    return Opened(width, height, load, exif.orientation(blocks[0] if blocks else None))


def _split(data: bytes) -> tuple[bytes, list[bytes]]:
    """The file without what is not needed for its pixels, and the segments left out.

    Where the markers cannot be followed, the rest stays as it is.
    """
    at, kept, segments = 2, [data[:2]], []
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _SCAN or marker <= 0x01 or 0xD0 <= marker <= 0xD9 or length < 2:
            break
        end = at + 2 + length
        if marker == _COMMENT or (marker & 0xF0 == 0xE0 and marker not in (_ADOBE, _JFIF)):
            segments.append(data[at + 4 : end])
        else:
            kept.append(data[at:end])
        at = end
    return b"".join((*kept, data[at:])), segments


def _scans(data: bytes) -> int:
    """How many scans a picture has, counted no further than is allowed; what follows it is none."""
    count, at = 0, 2
    while count <= MOST_SCANS and (found := _MARKER.search(data, at)) is not None:
        at, kind = found.start(), found[0][1]
        if kind == _END:
            break
        count += kind == _SCAN
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return count


def _profile(segments: list[bytes]) -> bytes | None:
    """The ICC profile, from its numbered parts; None if one is missing."""
    parts = {s[12]: s for s in segments if s.startswith(_PROFILE) and len(s) > 14}
    if not parts or sorted(parts) != list(range(1, next(iter(parts.values()))[13] + 1)):
        return None
    return b"".join(parts[k][14:] for k in sorted(parts))
