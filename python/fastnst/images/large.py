"""Large pictures in: decoded once, as a stream, into a store, and read by rows from there.

This needs the extra ``large`` (libvips by way of pyvips). Pixels become what ``decode.load_image``
makes of them: EXIF rotation is applied, ICC profiles are converted to sRGB, alpha is composited on
white, grey and CMYK become RGB. 16-bit colour keeps its 16 bits, which Pillow does not do.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import threading
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image, ImageCms
from torch import Tensor

from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.images.decode import Picture, load_image, open_image
from fastnst.images.exif import valid
from fastnst.images.formats import HEAD, identify
from fastnst.images.levels import TooLarge, white_of_floats
from fastnst.images.png import colours_of, orientation_of
from fastnst.images.rows import PixelRows, StoredRows, extremes
from fastnst.images.source import open_source
from fastnst.images.srgb import Colours, to_srgb
from fastnst.images.tiff import Described, describe
from fastnst.strips.storage import Store

DecodedRows: TypeAlias = "PixelRows | StoredRows"

# libvips notes the errors of all threads in one place: who reads them works alone
_NOTES = threading.RLock()

# Pixels that are decoded unless more are asked for, against files that are made to unpack to a size
# that nobody expects: the limit that Pillow has.
LARGEST = 2 * (Image.MAX_IMAGE_PIXELS or 89_478_485)

# Pixels up to which a picture is decoded whole and kept in memory: 400 MB as float32. Photographs
# of most cameras are below, and are decoded as ever.
WHOLE = 1 << 25

# libvips' loaders that need not decode all at once, by the names that ``formats`` gives
_LOADERS = {"TIFF": "tiffload", "PNG": "pngload", "JPEG": "jpegload"}
_ROWS = 64  # decoded at a time; libvips buffers several times as much
_DTYPES = {"uchar": torch.uint8, "ushort": torch.uint16, "float": torch.float32}
_CHANNELS = {"b-w": 1, "grey16": 1, "cmyk": 4}  # of colour, by libvips' interpretations; else 3
_COLOURS = {"GRAY": 1, "RGB ": 3, "CMYK": 4}  # channels of a profile's colour space


def unavailable_reason() -> str | None:
    """Why large pictures cannot be decoded here, or None if they can."""
    try:
        _vips()
    except ImportError as error:
        return f"the extra 'large' is not installed (pip install 'fastnst[large]'): {error}"
    return None


def open_rows(
    picture: Picture | DecodedRows,
    store: Store,
    largest: int = LARGEST,
    label: str = "the picture",
) -> DecodedRows:
    """A picture by rows: in memory up to ``WHOLE`` pixels, decoded into a store beyond.

    Without the extra, a file is decoded whole as long as Pillow decodes it.

    Args:
        picture: Anything that ``load_image`` takes, or what this function returned before.
        store: Where the pixels of a large file go.
        largest: The most pixels of a file to decode: more than the default must be asked for.
        label: What to call an array or tensor in messages.

    Raises:
        InvalidInput: for a picture that cannot be used or is too large; without the extra this
            names Pillow's limit.
        OutputFailed: if the store has no space.
    """
    if isinstance(picture, (PixelRows, StoredRows)):
        return picture
    if not isinstance(picture, (str, os.PathLike)) or not os.path.isfile(picture):  # noqa: PTH113
        return PixelRows(load_image(picture, label))
    try:
        with open_image(picture) as opened:
            width, height = opened.size
            _check_megapixels(width, height, largest)
            if width * height <= WHOLE or not _streams(picture):
                return PixelRows(opened.pixels())
    except TooLarge as error:
        _check_streams(picture, error)
    return open_large(picture, store, largest)


def size_of(picture: str | os.PathLike[str], largest: int = LARGEST) -> tuple[int, int]:
    """Width and height of a file as it will be shown, without decoding its pixels.

    Args:
        picture: The file.
        largest: The most pixels to decode, as for ``open_rows``.

    Raises:
        InvalidInput: for a file that ``open_rows`` refuses before it decodes it.
    """
    try:
        with open_image(picture) as opened:
            _check_megapixels(*opened.size, largest)
            return opened.size
    except TooLarge as error:
        _check_streams(picture, error)
    image = _header(picture, _described(Path(picture)))
    _check_size(image, Path(picture), largest)
    turned = _orientation(image, Path(picture))
    return (image.width, image.height) if turned < 5 else (image.height, image.width)


def _streams(picture: str | os.PathLike[str]) -> bool:
    """Whether a file can be decoded a few rows at a time."""
    return unavailable_reason() is None and _header(picture) is not None


def _check_streams(picture: str | os.PathLike[str], error: TooLarge) -> None:
    """Make sure that a file that is too large to be decoded whole can be decoded by rows.

    Raises:
        InvalidInput: saying what is missing; without libvips' help, what ``error`` says.
    """
    reason = unavailable_reason()
    if reason:
        raise InvalidInput(
            f"{picture} has more than {LARGEST / 1e6:.0f} megapixels, which is more than is "
            f"decoded whole, and {reason}"
        ) from error
    if _header(picture) is None:
        raise error


def open_large(picture: str | os.PathLike[str], store: Store, largest: int = LARGEST) -> StoredRows:
    """Decode a picture file into a store.

    Memory is bounded for TIFF (also BigTIFF), baseline JPEG and PNG that is not interlaced: a few
    strips of rows, beside the pixels in the store, 3, 6 or 12 bytes each.

    Args:
        picture: The file: TIFF, PNG or JPEG, by its content.
        store: Where the decoded pixels go.
        largest: The most pixels to decode: more than the default must be asked for.

    Raises:
        BackendUnavailable: if the extra is not installed.
        InvalidInput: if the file is missing, a folder, empty, truncated, no picture, has more than
            ``largest`` pixels or values that are not finite, or can only be decoded whole.
        OutputFailed: if the store has no space.
    """
    reason = unavailable_reason()
    if reason:
        raise BackendUnavailable(f"{picture} cannot be read by rows: {reason}")
    path = Path(picture)
    with open_source(str(path)) as file:  # says whether it is missing, a folder, empty, …
        kind = identify(file.read(HEAD))
    if kind not in _LOADERS:
        raise InvalidInput(f"{path} is read by rows only as a TIFF, PNG or JPEG file")
    described = _described(path)
    image = _header(path, described)
    if image is None:
        raise InvalidInput(f"{path} is not a picture that can be read: it is damaged")
    _check_size(image, path, largest)
    try:
        turned = _orientation(image, path)
        colours = _png_colours(path) if kind == "PNG" else None
        profiled = colours is None or colours.profile is not None
        rest = None if colours is None or profiled else colours
        if described is not None:
            image = _of_all_bits(_colours_alone(image, described), path, described)
        with _NOTES:
            image, white = _to_rgb(image, profiled, flat=rest is None)
        values = store.zeros((image.height, image.width, 3), _DTYPES[image.format])
        _decode(image, values, store, rest, white)
        if not white:  # floats, of which a file does not say where white is
            white = white_of_floats(*extremes(values, store))
    except _vips().Error as error:
        raise InvalidInput(f"{path} cannot be read: {_reason(error)}") from error
    except InvalidInput as error:
        raise InvalidInput(f"{path} {error}") from error
    return StoredRows(values, store, turned, white)


def _described(path: Path) -> Described | None:
    """What the directory of a TIFF says; None for other files.

    Raises:
        InvalidInput: for a TIFF that is damaged, or camera data.
    """
    try:
        with path.open("rb") as file:
            if identify(file.read(HEAD)) != "TIFF":
                return None
            return describe(file)
    except InvalidInput as error:
        raise InvalidInput(f"{path} {error}") from error
    except Exception as error:  # tifffile raises of everything
        raise InvalidInput(f"{path} is not a picture that can be read: it is damaged") from error


def _png_colours(path: Path) -> Colours:
    with path.open("rb") as file:
        return colours_of(file)


def _header(path: str | os.PathLike[str], described: Described | None = None) -> Any:
    """A TIFF, PNG or JPEG file opened for one pass from top to bottom; None for any other file."""
    vips = _vips()
    try:
        # Brackets at the end hold options; empty ones, so that a name may end in brackets.
        page = f"page={described.page}" if described is not None and described.page else ""
        name = f"{os.fspath(path)}[{page}]"
        with _NOTES:
            image = vips.Image.new_from_file(name, access="sequential", fail_on="error")
    except vips.Error:
        return None
    return image if image.get("vips-loader") in _LOADERS.values() else None


def _vips() -> Any:
    """The module pyvips, with no cache of operations: nothing is decoded twice, all is let go.

    Raises:
        ImportError: if it, or libvips, is not installed.
    """
    # pyvips logs what libvips warns of, which would go to the terminal if nobody listened
    logging.getLogger("pyvips").addHandler(logging.NullHandler())
    try:
        pyvips = importlib.import_module("pyvips")
    except OSError as error:  # the library is there but does not load
        raise ImportError(str(error)) from error
    pyvips.cache_set_max(0)
    return pyvips


def _check_megapixels(width: int, height: int, largest: int, name: str = "") -> None:
    pixels = width * height
    if pixels > largest:
        raise InvalidInput(
            f"{name}has more than {largest / 1e6:.3g} megapixels: {pixels / 1e6:.3g}; ask for "
            f"them with --max-megapixels {-(-pixels // 10**6)}, or scale it down first"
        )


def _check_size(image: Any, path: Path, largest: int) -> None:
    pixels = image.width * image.height
    _check_megapixels(image.width, image.height, largest, f"{path} ")
    if pixels > LARGEST and _field(image, "interlaced", 0):
        raise InvalidInput(
            f"{path} is interlaced (progressive) and has {pixels / 1e6:.0f} megapixels: it can "
            "only be decoded whole; save it without interlacing"
        )


def _field(image: Any, name: str, default: int) -> int:
    return int(image.get(name)) if image.get_typeof(name) else default


def _orientation(image: Any, path: Path) -> int:
    if image.get("vips-loader") == "pngload":  # libvips has read no further than to the pixels
        with path.open("rb") as file:
            return orientation_of(file)
    return valid(_field(image, "orientation", 1))


def _colours_alone(image: Any, described: Described) -> Any:
    """A TIFF's image without the channels that mean nothing: what is left are colours and alpha."""
    if not image.hasalpha():
        return image
    kept = _CHANNELS.get(image.interpretation, 3) + described.alpha
    return image[0:kept] if kept > 1 else image[0]


def _of_all_bits(image: Any, path: Path, described: Described) -> Any:
    """A TIFF's image of 16 bits whose white is 65535: many have 10 or 12 in words of 16.

    The largest level is looked for first, in as many rows as tell.
    """
    if image.format != "ushort":
        return image
    white = described.white(_top(_colours_alone(_header(path, described), described), described))
    if white == 65535:
        return image
    scale = 65535 / white
    of_zero = 65535 * (1 - scale) if described.inverted else 0.0  # libvips has inverted it
    whole = image.linear(scale, of_zero).round("rint").cast("ushort")
    return whole.copy(interpretation=image.interpretation)


def _top(image: Any, described: Described) -> int:
    """The largest level that a TIFF of 16 bits has stored, or one that tells what white is."""
    region, top = _vips().Region.new(image), 0
    for start in range(0, image.height, _ROWS):
        data = _fetched(region, start, image.width, min(_ROWS, image.height - start))
        levels = np.frombuffer(data, np.uint16)
        # libvips has inverted them where 0 is white
        top = max(top, 65535 - int(levels.min()) if described.inverted else int(levels.max()))
        if described.has_all_bits(top):
            break
    return top


def _to_rgb(image: Any, profiled: bool, flat: bool) -> tuple[Any, float]:
    """An image in sRGB, three bands, and its white; 0 if that must be looked for.

    Args:
        image: As it is stored.
        profiled: Whether its ICC profile counts.
        flat: Whether alpha is composited on white; otherwise it stays as a fourth band.
    """
    if image.format not in ("uchar", "ushort", "float", "double"):
        raise InvalidInput(
            "holds integers of more than 16 bits or with signs: save it as a 16-bit TIFF or PNG"
        )
    white = {"uchar": 255.0, "ushort": 65535.0}.get(image.format, 0.0)
    if image.format == "double":
        image = image.cast("float")
    if profiled:
        image = _profile_applied(image)
    if image.interpretation == "lab":
        image = image.colourspace("srgb")
        white = 255.0
    alpha, above = image.hasalpha(), None
    if alpha and not flat:
        above, alpha = image[image.bands - 1], False
        image = image[0 : image.bands - 1] if image.bands > 2 else image[0]
    if image.interpretation == "cmyk":
        image = _cmyk_to_rgb(image, white)
    if alpha:
        opaque = white or 1.0
        image = image.flatten(background=[opaque] * (image.bands - 1), max_alpha=opaque)
    if image.bands < 3:
        grey = image[0]
        image = grey.bandjoin([grey, grey])
    image = image[0:3] if image.bands > 3 else image
    return image if above is None else image.bandjoin(above), white


def _profile_applied(image: Any) -> Any:
    """An embedded ICC profile applied. One that is broken or does not fit is ignored."""
    if image.format == "float" or not image.get_typeof("icc-profile-data"):
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.get("icc-profile-data")))
        colours = _COLOURS.get(profile.profile.xcolor_space, 0)
    except (ImageCms.PyCMSError, OSError):
        return image
    if colours != image.bands - bool(image.hasalpha()):
        return image
    depth = 16 if image.format == "ushort" else 8
    return image.icc_transform("srgb", embedded=True, intent="perceptual", depth=depth)


def _cmyk_to_rgb(image: Any, white: float) -> Any:
    """Ink on white paper: 1 − min(1, colour + black) … as Pillow, (1 − colour)(1 − black)."""
    paper = (image[0:3] * -1 + white) * (image[3] * -1 + white) / white
    rgb = paper.round("rint").cast(image.format)
    if image.bands > 4:
        rgb = rgb.bandjoin(image[4])
    return rgb.copy(interpretation="srgb" if white == 255 else "rgb16")


def _decode(
    image: Any, values: Tensor, store: Store, colours: Colours | None, white: float
) -> None:
    """Decode an image from top to bottom into ``(h, w, 3)``, a few rows at a time.

    Args:
        image: In RGB, with alpha only beside ``colours``.
        values: Where to, the levels of the image.
        store: What they lie in.
        colours: Gamma and primaries of a PNG, which are still to be applied; None: there are none.
        white: The level of white.
    """
    region = _vips().Region.new(image)
    dtype = values.numpy().dtype
    for start in range(0, image.height, _ROWS):
        rows = values[start : start + _ROWS]
        data = _fetched(region, start, image.width, len(rows))
        found = np.frombuffer(data, dtype).reshape(*rows.shape[:2], image.bands)
        if colours is not None:
            parts = found.astype(np.float32) / np.float32(white)
            alpha = parts[..., 3:] if image.bands > 3 else np.float32(1)
            shown = to_srgb(np.ascontiguousarray(parts[..., :3]), colours) * alpha + (1 - alpha)
            found = (shown * white).round().astype(dtype)
        rows.numpy()[:] = found
        store.release(rows)


def _fetched(region: Any, start: int, width: int, rows: int) -> Any:
    """Decoded rows. A tile that cannot be decoded is black to libvips, which only notes an error.

    Raises:
        pyvips.Error: for such a tile too.
    """
    vips = _vips()
    with _NOTES:
        vips.vips_lib.vips_error_clear()
        data = region.fetch(0, start, width, rows)
        if vips.ffi.string(vips.vips_lib.vips_error_buffer()):
            raise vips.Error("a tile cannot be decoded")  # takes what was noted along
    return data


def _reason(error: Any) -> str:
    """The first thing that libvips says is wrong, without the name of the part that says it."""
    lines = [line.strip() for line in error.detail.splitlines() if line.strip()]
    return lines[0].partition(": ")[2] or lines[0] if lines else "it is damaged or cut short"
