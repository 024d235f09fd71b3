"""The formats whose files Pillow reads as they are: WebP, AVIF, HEIF, GIF, BMP and PPM."""

from __future__ import annotations

import importlib.util
from typing import BinaryIO

from PIL import Image, features

from fastnst.errors import InvalidInput
from fastnst.images.exif import orientation
from fastnst.images.levels import Levels, Opened, check_size, levels_of
from fastnst.images.srgb import PRIMARIES, Colours, refuse_hdr

_BOXES = 1 << 16  # bytes at the beginning of an AVIF or HEIF, in which its colours are named
_LIKE_SRGB = (1, 6, 13, 14, 15)  # transfer functions of H.273 that cameras mean as sRGB
LONGEST_TEXT = 64 << 20  # bytes of a PPM written as text, which is read slowly


def open_plain(file: BinaryIO, kind: str) -> Opened:
    """Read a picture's header; of an animation that of its first frame.

    Args:
        file: It, open.
        kind: Its format, one of ``formats.READ``.

    Raises:
        InvalidInput: if it is too large, or this installation lacks the decoder.
    """
    _check_decoder(kind)
    head = file.read(64)
    if kind == "WEBP":
        _check_canvas(head)
    if kind == "PPM" and head[1:2] in b"123":
        file.seek(LONGEST_TEXT)
        if file.read(1):
            raise InvalidInput("is a long PPM written as text: save it as PNG")
    file.seek(0)
    coded = _coded_colours(file.read(_BOXES)) if kind in ("AVIF", "HEIF") else None
    file.seek(0)
    image = Image.open(file, formats=(kind,))
    check_size(*image.size)
    profile = image.info.get("icc_profile")
    colours = Colours(profile)
    if coded is not None and not profile:
        primaries, transfer = coded
        refuse_hdr(transfer)
        if transfer in _LIKE_SRGB:
            colours = Colours(primaries=PRIMARIES.get(primaries))

    def load() -> Levels:
        image.load()
        if kind == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getextrema()[1]:
            return levels_of(image.convert("RGB"), colours)  # a fourth byte that nobody has set
        return levels_of(image, colours)

    return Opened(*image.size, load, orientation(image.info.get("exif")))


def _coded_colours(head: bytes) -> tuple[int, int] | None:
    """Primaries and transfer function of H.273 in the first box ``colr`` that has them."""
    _, box, rest = head.partition(b"colrnclx")
    if not box or len(rest) < 4:
        return None
    return int.from_bytes(rest[:2], "big"), int.from_bytes(rest[2:4], "big")


def _check_decoder(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        raise InvalidInput("is AVIF, which this Pillow cannot read: save it as PNG or JPEG first")
    if kind == "HEIF":
        if importlib.util.find_spec("pillow_heif") is None:
            raise InvalidInput(
                "is HEIC, which needs a package: pip install pillow-heif (or save it as JPEG)"
            )
        from pillow_heif import register_heif_opener

        register_heif_opener()


def _check_canvas(head: bytes) -> None:
    """The size of a WebP by its header: the decoder takes its memory before anybody can ask it."""
    if head[12:16] == b"VP8X":
        width = 1 + int.from_bytes(head[24:27], "little")
        height = 1 + int.from_bytes(head[27:30], "little")
        check_size(width, height)
    elif head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        check_size(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    elif head[12:16] == b"VP8 ":
        size = int.from_bytes(head[26:28], "little"), int.from_bytes(head[28:30], "little")
        check_size(*(side & 0x3FFF for side in size))
