"""PNG: the pixels by Pillow, and what it leaves out: 16 bits, gamma, primaries, transparent values.

Only the chunks that hold pixels are handed to the decoder. What else a file has (text of any
length, profiles, animation) is read here, within limits, or not at all.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image

from fastnst.errors import InvalidInput
from fastnst.images.exif import orientation
from fastnst.images.levels import Levels, Opened, check_size, levels_of
from fastnst.images.srgb import PRIMARIES, Colours, refuse_hdr

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST_PROFILE = 16 << 20  # bytes; a longer one is ignored
_ABOUT_COLOURS = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
_SRGB_FULL = bytes((13, 0, 1))  # transfer function, matrix and range of H.273
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    depth: int
    kind: int  # of colour


def open_png(file: BinaryIO) -> Opened:
    """Read a PNG's header and what precedes its pixels.

    Raises:
        InvalidInput: if it is damaged or too large.
    """
    data = file.read()
    chunks = dict(reversed([(name, body) for name, body in _chunks(data) if name != b"IDAT"]))
    try:
        header = _Header(*struct.unpack(">IIBB", chunks[b"IHDR"][:10]))
    except (KeyError, struct.error) as error:
        raise InvalidInput("cannot be read: its header is damaged") from error
    check_size(header.width, header.height)
    if header.kind == _PALETTE and not chunks.get(b"PLTE"):
        raise InvalidInput("cannot be read: its palette is missing")
    _refuse_hdr(chunks)
    colours = _colours(chunks)
    return Opened(
        header.width,
        header.height,
        lambda: _load(data, header, colours, chunks.get(b"tRNS")),
        orientation(chunks.get(b"eXIf")),
    )


def colours_of(file: BinaryIO) -> Colours:
    """What a PNG says about its colours, which stands before its pixels; these are not read.

    Raises:
        InvalidInput: for an HDR picture.
    """
    file.seek(len(SIGNATURE))
    chunks: dict[bytes, bytes] = {}
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if head[4:] in _ABOUT_COLOURS and length <= LARGEST_PROFILE:
            chunks.setdefault(head[4:], file.read(length))
            length = 0
        file.seek(length + 4, io.SEEK_CUR)
    _refuse_hdr(chunks)
    return _colours(chunks)


def orientation_of(file: BinaryIO) -> int:
    """How a PNG is to be turned, 1 to 8: its chunk eXIf may also follow the pixels."""
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf" and length <= LARGEST_PROFILE:
            return orientation(file.read(length))
        file.seek(length + 4, io.SEEK_CUR)
    return 1


def _refuse_hdr(chunks: Mapping[bytes, bytes]) -> None:
    transfer = chunks.get(b"cICP", b"")[1:2]
    refuse_hdr(transfer[0] if transfer else None)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The name and body of each whole chunk."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            return
        name = data[at + 4 : at + 8]
        yield name, b"" if name == b"IDAT" else data[at + 8 : at + 8 + length]
        at += 12 + length


def _pixels_alone(data: bytes, header: _Header) -> bytes:
    """The same file without the chunks that hold no pixels; what is cut short is kept as it is."""
    wanted = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
    if header.kind == _PALETTE:
        wanted.add(b"tRNS")
    view, parts, at = memoryview(data), [SIGNATURE], len(SIGNATURE)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] in wanted:
            parts.append(view[at:end])  # type: ignore[arg-type]
        at = end
    return b"".join(parts)


def _load(data: bytes, header: _Header, colours: Colours, transparent: bytes | None) -> Levels:
    data = _pixels_alone(data, header)
    if header.depth == 16 and header.kind in (_RGB, _RGB_ALPHA, _GREY_ALPHA):
        levels = Levels(_sixteen_bits(data, header), 65535.0, colours)
    else:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            levels = levels_of(image, colours)
    samples = {_GREY: 1, _RGB: 3}.get(header.kind)
    if transparent is None or samples is None or len(transparent) < 2 * samples:
        return levels
    key = np.array(struct.unpack(f">{samples}H", transparent[: 2 * samples]), np.int64)
    deepest = (1 << header.depth) - 1
    key = (key & deepest) * int(levels.white) // deepest  # fewer than 8 bits are spread over 255
    stored = levels.values
    if colours.profile is not None and header.depth < 16:  # it was applied already
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            stored = levels_of(image, Colours()).values
    opaque = (stored != key.astype(stored.dtype)).any(axis=2, keepdims=True)
    alpha = (opaque * levels.white).astype(levels.values.dtype)
    values = np.concatenate([levels.values, alpha], axis=2)
    return Levels(values, levels.white, levels.colours)


def _sixteen_bits(data: bytes, header: _Header) -> np.ndarray:
    """``(H, W, C)`` uint16.

    Pillow gives the upper byte of each sample. It gives the lower one too if it is told that the
    lower byte comes first. Grey with alpha has no such mode: its four bytes a pixel are read as
    those of an 8-bit RGBA picture.
    """
    if header.kind == _GREY_ALPHA:
        body = data[16:24] + bytes((8, _RGB_ALPHA)) + data[26:29]
        start = SIGNATURE + struct.pack(">I", 13) + b"IHDR" + body
        data = start + struct.pack(">I", zlib.crc32(b"IHDR" + body)) + data[33:]
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            halves = np.asarray(image).astype(np.uint16)
        both: np.ndarray = halves[..., ::2] << 8 | halves[..., 1::2]
        return both
    mode = "RGB" if header.kind == _RGB else "RGBA"
    upper = _bytes(data, f"{mode};16B")
    values: np.ndarray = upper.astype(np.uint16) << 8 | _bytes(data, f"{mode};16L")
    return values


def _bytes(data: bytes, raw: str) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        image.tile = [tile._replace(args=raw) for tile in image.tile]
        levels: np.ndarray = np.asarray(image)
        return levels


def _colours(chunks: dict[bytes, bytes]) -> Colours:
    """The order of precedence is the standard's: cICP, iCCP, sRGB, then gAMA and cHRM.

    A chunk cICP counts if it is of full range and has sRGB's transfer function.
    """
    coded = chunks.get(b"cICP", b"")
    if coded[1:4] == _SRGB_FULL and coded[0] in PRIMARIES:
        return Colours(primaries=PRIMARIES[coded[0]])
    if b"iCCP" in chunks:
        _, _, packed = chunks[b"iCCP"].partition(b"\0")
        return Colours(_inflated(packed[1:]))
    if b"sRGB" in chunks:
        return Colours()
    gamma = primaries = None
    if len(chunks.get(b"gAMA", b"")) == 4:
        (value,) = struct.unpack(">I", chunks[b"gAMA"])
        gamma = value / 100_000 if 1_000 <= value <= 1_000_000 else None  # others make no sense
    if len(chunks.get(b"cHRM", b"")) == 32:
        primaries = tuple(v / 100_000 for v in struct.unpack(">8I", chunks[b"cHRM"]))
    return Colours(None, gamma, primaries)


def _inflated(packed: bytes) -> bytes | None:
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(packed, LARGEST_PROFILE)
    except zlib.error:
        return None
    return None if inflater.unconsumed_tail else profile
