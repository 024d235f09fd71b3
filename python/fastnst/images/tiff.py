"""TIFF: 8 bits by Pillow; deeper pictures, whose layouts it mixes up, by tifffile."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from fastnst.errors import InvalidInput
from fastnst.images.exif import upright, valid
from fastnst.images.levels import Levels, Opened, check_size, levels_of, of_floats
from fastnst.images.srgb import Colours

FEWER = (10, 12)  # bits that are looked for in words of 16
MOST_PAGES = 64  # that are looked at for the full picture
NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, SEPARATED = 0, 1, 2, 5
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
REDUCED, MASK = 1, 4  # bits of the tag NewSubfileType
_RAW = (32803, 34892)  # photometric interpretations of camera data
_LZW_GAIN = 2731  # bytes at most that LZW makes of one
_INFLATED = 1 << 30  # bytes at most that one segment may become
_LARGEST_TILE = 4096**2  # pixels of a tile that is larger than its picture
_RESAVE = "save it as a 16-bit TIFF, uncompressed or with deflate, or as PNG"


def open_tiff(file: BinaryIO) -> Opened:
    """Read a TIFF's directories and find the picture: the first that is no reduced copy or mask.

    Raises:
        InvalidInput: if it is damaged, too large, camera data, or a kind that is not read.
    """
    with _tifffile(file) as opened:
        index, page = _full_picture(opened)
        width, height = int(page.imagewidth), int(page.imagelength)
        check_size(width, height)
        colours = Colours(_bytes(page.tags.valueof(34675)))
        eight = max(_numbers(page.bitspersample)) <= 8 and _format(page) == UNSIGNED
        turned = valid(page.tags.valueof(274, 1))
    if eight:
        with contextlib.suppress(UnidentifiedImageError, EOFError), _frame(file, index) as image:
            width, height = image.size  # as turned
            return Opened(width, height, lambda: _load_eight(file, index, colours))
    return Opened(width, height, lambda: _load_deep(file, index, colours), turned)


@dataclass(frozen=True)
class Described:
    """What a TIFF's directory says of its picture that libvips does not ask for.

    Attributes:
        page: Which picture of the file it is, from 0: the first that is no reduced copy or mask.
        alpha: Whether its first extra channel is alpha; any others mean nothing.
        inverted: Whether 0 is white.
        bits: Of a channel.
        largest: The largest level that occurs, as its tag has it; None: it has none.
    """

    page: int
    alpha: bool
    inverted: bool
    bits: int
    largest: Any

    def white(self, top: int) -> float:
        """The level of white of whole numbers up to ``top``."""
        return _white(top, self.bits, self.largest)

    def has_all_bits(self, top: int) -> bool:
        """Whether white is the largest number there is, whatever levels follow beyond ``top``."""
        return top >= 1 << FEWER[-1] and self.white(top) == (1 << self.bits) - 1


def describe(file: BinaryIO) -> Described:
    """Read a TIFF's directories.

    Raises:
        InvalidInput: if it is damaged, or camera data.
    """
    with _tifffile(file) as opened:
        index, page = _full_picture(opened)
        extra = [int(e) for e in page.extrasamples][:1]
        bits = max(_numbers(page.tags.valueof(258, 1)))
        if not 1 <= bits <= 64:
            raise InvalidInput("cannot be read: its number of bits is damaged")
        inverted = int(page.photometric) == WHITE_IS_ZERO
        return Described(index, extra in ([1], [2]), inverted, bits, page.tags.valueof(281))


@contextlib.contextmanager
def _tifffile(file: BinaryIO) -> Iterator[Any]:
    import tifffile  # only here: most pictures are no TIFFs

    logger = logging.getLogger("tifffile")  # it tells of each odd tag
    was, logger.disabled = logger.disabled, True
    try:
        file.seek(0)
        with tifffile.TiffFile(file) as opened:
            yield opened
    finally:
        logger.disabled = was


def _full_picture(opened: Any) -> tuple[int, Any]:
    first = None
    for index in range(MOST_PAGES):
        try:
            page = opened.pages[index]
        except IndexError:
            break
        tags = page.tags
        if 50706 in tags or tags.valueof(262) in _RAW:
            raise InvalidInput(
                "is a raw photograph: develop it and save it as a 16-bit TIFF or PNG"
            )
        kind = tags.valueof(254, 0) if 254 in tags else REDUCED * (tags.valueof(255) == 2)
        if not int(kind) & (REDUCED | MASK):
            return index, page
        first = (index, page) if first is None else first
    if first is None:
        raise InvalidInput("cannot be read: it holds no picture")
    if 330 in first[1].tags:  # the picture lies below it, as cameras do it
        raise InvalidInput("is a raw photograph: develop it and save it as a 16-bit TIFF or PNG")
    return first


def _frame(file: BinaryIO, index: int) -> ImageFile.ImageFile:
    file.seek(0)
    image = Image.open(file, formats=("TIFF",))
    image.seek(index)
    return image


def _load_eight(file: BinaryIO, index: int, colours: Colours) -> Levels:
    image = _frame(file, index)
    image.load()  # turned by its tag
    return levels_of(image, colours)


def _load_deep(file: BinaryIO, index: int, colours: Colours) -> Levels:
    with _tifffile(file) as opened:
        page = opened.pages[index]
        photometric, bits = int(page.photometric), max(_numbers(page.bitspersample))
        kind, channels = _format(page), int(page.samplesperpixel)
        if page.imagedepth != 1 or photometric not in (
            WHITE_IS_ZERO,
            BLACK_IS_ZERO,
            RGB,
            SEPARATED,
        ):
            raise InvalidInput(f"is a TIFF of a kind that is not read; {_RESAVE}")
        if kind not in (UNSIGNED, FLOAT) or bits > 64:
            name = {SIGNED: "signed integers"}.get(kind, "complex or untyped numbers")
            raise InvalidInput(f"holds {name}, of which it cannot be told what is white; {_RESAVE}")
        values = _decode(file, page, index)
        extra = [int(e) for e in page.extrasamples]
        largest = page.tags.valueof(281)  # MaxSampleValue
        packed = page.tags.valueof(258)
    values = values[..., : _kept(photometric, channels, extra)]
    if kind == FLOAT:
        levels = of_floats(values, colours, premultiplied=extra[:1] == [1])
        return Levels(
            levels.values, levels.white, colours, levels.premultiplied, photometric == WHITE_IS_ZERO
        )
    white = _white(int(values.max()), max(_numbers(packed)), largest)
    if photometric == SEPARATED:
        ink = (values[..., :4] * (255 / white)).clip(0, 255).round().astype(np.uint8)
        return levels_of(Image.fromarray(ink, "CMYK"), colours)
    return Levels(values, white, colours, extra[:1] == [1], photometric == WHITE_IS_ZERO)


def _decode(file: BinaryIO, page: Any, index: int) -> np.ndarray:
    """``(H, W, C)``, as stored."""
    compression = int(page.compression)
    separate = int(page.planarconfig) == 2 and int(page.samplesperpixel) > 1
    simple = page.dtype == np.uint16 and max(_numbers(page.bitspersample)) == 16 and not separate
    if compression == LZW and simple and int(page.photometric) != SEPARATED:
        values = _by_pillow(file, index)
        if values is not None:
            return values
    _check_segments(page, compression)
    try:
        values = page.asarray(maxworkers=1)
    except (ImportError, ValueError, KeyError) as error:
        if "imagecodecs" in str(error):
            raise InvalidInput(
                f"is compressed in a way that needs the package imagecodecs; {_RESAVE}"
            ) from error
        raise
    if values.size != page.imagewidth * page.imagelength * page.samplesperpixel:
        raise InvalidInput(f"is a TIFF of a kind that is not read; {_RESAVE}")
    if separate:
        values = np.moveaxis(values.reshape(-1, page.imagelength, page.imagewidth), 0, -1)
    return cast("np.ndarray", values.reshape(page.imagelength, page.imagewidth, -1))


def _by_pillow(file: BinaryIO, index: int) -> np.ndarray | None:
    """Interleaved 16-bit levels by libtiff: the upper bytes and then the lower ones; or None.

    Pillow reads them as 8-bit pictures, from the upper byte in the order of bytes that it is told.
    """
    with contextlib.suppress(UnidentifiedImageError, EOFError, OSError):
        mode, raw = (image := _frame(file, index)).mode, _raw_mode(image)
        if mode.startswith("I;16"):
            return _stored(image, raw)
        if mode in ("RGB", "RGBA") and raw == f"{mode};16N":
            upper = _stored(image, f"{mode};16L").astype(np.uint16)
            both: np.ndarray = upper << 8 | _stored(_frame(file, index), f"{mode};16B")
            return both
    return None


def _stored(image: ImageFile.ImageFile, raw: str) -> np.ndarray:
    """``(H, W, C)`` as it lies in the file: Pillow turns a TIFF while it loads it."""
    turned = valid(image.tag_v2.get(274, 1))  # type: ignore[attr-defined]
    (tile,) = image.tile
    image.tile = [tile._replace(args=(raw, *cast("tuple[Any, ...]", tile.args)[1:]))]
    values = np.atleast_3d(np.asarray(image))
    stored: np.ndarray = upright(values, {6: 8, 8: 6}.get(turned, turned))
    return stored


def _raw_mode(image: ImageFile.ImageFile) -> Any:
    args = image.tile[0].args if len(image.tile) == 1 else None
    return args[0] if args else None


def _check_segments(page: Any, compression: int) -> None:
    """Refuse segments that would become far more than their part of the picture.

    Raises:
        InvalidInput: for those, and for compressions whose decoders have no bound.
    """
    if page.is_tiled:
        tile, picture = page.tilewidth * page.tilelength, page.imagewidth * page.imagelength
        if tile > max(4 * picture, _LARGEST_TILE):
            raise InvalidInput("cannot be read: its tiles are far larger than the picture")
    allowed = 2 * int(page.imagewidth * page.imagelength * page.samplesperpixel) * 8 + (1 << 20)
    size = page.parent.filehandle.size  # a read takes the memory for what it asks for
    if any(o + c > size for o, c in zip(page.dataoffsets, page.databytecounts, strict=False)):
        raise InvalidInput("cannot be read: it is cut short")
    if compression in (NONE, PACKBITS):  # a byte becomes 64 at most
        return
    if compression == LZW and importlib.util.find_spec("imagecodecs") is not None:
        if max(page.databytecounts, default=0) * _LZW_GAIN <= _INFLATED:
            return
    elif compression in (DEFLATE, OLD_DEFLATE):
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            page.parent.filehandle.seek(offset)
            data = page.parent.filehandle.read(count)
            if len(data) * 1032 > allowed and _inflates_beyond(data, allowed):  # at most 1032 to 1
                raise InvalidInput("cannot be read: it holds more data than its picture has")
        return
    raise InvalidInput(f"is compressed in a way that is not read for so deep a picture; {_RESAVE}")


def _inflates_beyond(data: bytes, allowed: int) -> bool:
    inflater, length = zlib.decompressobj(), 0
    while data and length <= allowed and not inflater.eof:
        block = inflater.decompress(data, 1 << 20)
        length, data = length + len(block), inflater.unconsumed_tail
        if not block:
            break
    return length > allowed


def _white(top: int, bits: int, largest: Any) -> float:
    """The level of white: by its tag, or of fewer bits in 16 if no level is beyond them.

    Cameras and microscopes store 10 or 12 bits in words of 16. Were white 65535, nothing of such a
    picture would be brighter than 6 %.
    """
    full = (1 << bits) - 1
    if bits != 16:
        return float(full)
    tagged = max(_numbers(largest), default=0) if largest is not None else 0
    if 255 <= tagged < full and top <= tagged:
        return float(tagged)
    for fewer in FEWER:
        if 255 < top < 1 << fewer:
            return float((1 << fewer) - 1)
    return float(full)


def _kept(photometric: int, channels: int, extra: list[int]) -> int:
    """How many channels count: colours, and the first extra one if it is alpha."""
    colours = {RGB: 3, SEPARATED: 4}.get(photometric, 1)
    if channels < colours:
        raise InvalidInput("cannot be read: it has too few channels")
    return colours + (channels > colours and extra[:1] in ([1], [2]) and photometric != SEPARATED)


def _format(page: Any) -> int:
    formats = set(_numbers(page.sampleformat))
    return formats.pop() if len(formats) == 1 else 0


def _numbers(value: Any) -> list[int]:
    return [int(v) for v in (value if isinstance(value, (tuple, list)) else (value,))]


def _bytes(value: Any) -> bytes | None:
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else None
