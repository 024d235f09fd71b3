"""Pictures in: files, PIL images, arrays and tensors become RGB (sRGB) in [0, 1], float32.

EXIF rotation is applied, ICC profiles (and a PNG's gamma) are converted, alpha is composited on
white; grey, palette, CMYK, 16-bit and float pictures are understood. A file is known by its
content, and only the formats in ``formats.READ`` are handed to a decoder. What bounds a decoder's
time and memory is the number of pixels, which is checked before it starts, and that no format is
read whose decoder may take more than its pixels need (``jpeg.MOST_SCANS``, ``tiff.py``).
"""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from fastnst import samples
from fastnst.errors import FastNSTError, InvalidInput
from fastnst.images.exif import ORIENTATION, upright, valid
from fastnst.images.formats import HEAD, READ, identify, refusal
from fastnst.images.jpeg import open_jpeg
from fastnst.images.levels import Opened, TooLarge, check_size, levels_of
from fastnst.images.pixels import Pixels
from fastnst.images.plain import open_plain
from fastnst.images.png import open_png
from fastnst.images.source import open_source
from fastnst.images.srgb import Colours
from fastnst.images.tiff import open_tiff

Picture: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor"
SAMPLE_PREFIX = "sample:"
NEVER = {"EPS": "PostScript", "WMF": "a Windows metafile"}  # Pillow runs a program to draw them


def load_image(picture: Picture, label: str = "the picture") -> Pixels:
    """Decode a picture.

    Args:
        picture: A path, ``-`` (standard input), ``sample:NAME``, a PIL image, an array or a tensor.
            Arrays are ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)``; tensors
            ``(3, H, W)``, ``(1, H, W)`` or with a leading batch of 1. Integers span their dtype's
            range; floats are in [0, 1].
        label: What to call an array or tensor in messages; files are called by their name.

    Returns:
        ``(H, W, 3)`` float32, RGB in [0, 1].

    Raises:
        InvalidInput: if it is missing, a folder, empty, truncated, no picture, too large to decode,
            or has values that are not finite.
    """
    if isinstance(picture, Image.Image):
        return _from_pil(picture, label)
    if isinstance(picture, Tensor):
        return _from_tensor(picture, label)
    if isinstance(picture, np.ndarray):
        return _from_array(np.asarray(picture), label)  # a subclass may not keep three axes
    try:
        name = os.fsdecode(os.fspath(picture))
    except TypeError as error:
        raise InvalidInput(
            f"{label} is of type {type(picture).__name__}: expected a path, a PIL image, an array "
            "or a tensor"
        ) from error
    if name.startswith(SAMPLE_PREFIX):
        return _from_pil(samples.load(name.removeprefix(SAMPLE_PREFIX)), name)
    with open_image(name) as opened:
        return opened.pixels()


@contextlib.contextmanager
def open_image(name: str | os.PathLike[str]) -> Iterator[Opened]:
    """Open a picture without decoding its pixels: its size is known, and whether it is too large.

    Raises:
        InvalidInput: if it is missing, a folder, empty, no picture or too large to decode; also for
            what goes wrong while the pixels are decoded inside the block.
    """
    name = os.fspath(name)
    with open_source(name) as file, _named(name):
        kind = identify(file.read(HEAD))
        file.seek(0)
        if kind not in READ:
            raise InvalidInput(refusal(kind))
        yield {"PNG": open_png, "JPEG": open_jpeg, "TIFF": open_tiff}.get(
            kind, functools.partial(open_plain, kind=kind)
        )(file)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Say of which picture an error is, in one line, whatever a decoder raised.

    Decoders meet bytes that anybody may have made, and raise errors of nearly every class.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns above 89 megapixels and refuses above 179, which is the limit here; it
            # also warns of damage in metadata, which does not matter if the pixels can be read.
            warnings.simplefilter("ignore")
            yield
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise TooLarge(
            f"{name} has more than {limit / 1e6:.0f} megapixels, which is more than is decoded; "
            "scale it down first"
        ) from error
    except TooLarge as error:
        raise TooLarge(f"{name} {error}") from error
    except InvalidInput as error:
        raise InvalidInput(f"{name} {error}") from error
    except FastNSTError:
        raise
    except UnidentifiedImageError as error:
        raise InvalidInput(f"{name} is not a picture that can be read: it is damaged") from error
    except MemoryError as error:
        raise InvalidInput(f"{name} needs more memory than there is") from error
    except Exception as error:
        lines = (
            getattr(error, "strerror", None) or str(error) or type(error).__name__
        ).splitlines()
        raise InvalidInput(f"{name} cannot be read: {lines[0]}") from error


def _load(image: Image.Image) -> None:
    """Decode a picture.

    Pillow maps an uncompressed TIFF into memory with the width that it has after it is turned,
    which shears it; one without a name is read.
    """
    name = getattr(image, "filename", None)
    if image.format != "TIFF" or not name:
        image.load()
        return
    image.filename = ""  # type: ignore[attr-defined]
    try:
        image.load()
    finally:
        image.filename = name  # type: ignore[attr-defined]


def _from_pil(image: Image.Image, label: str) -> Pixels:
    """An image that the caller opened."""
    if image.format in NEVER:
        raise InvalidInput(f"{label} {refusal(NEVER[image.format])}")
    with _named(label):
        check_size(*image.size)
        _load(image)
        turned = valid(image.getexif().get(ORIENTATION, 1))
        colours = Colours(image.info.get("icc_profile"))
        pixels = levels_of(image, colours).pixels()
        return np.ascontiguousarray(upright(pixels, turned))


def _from_tensor(tensor: Tensor, label: str) -> Pixels:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        raise InvalidInput(f"{label} is no dense tensor of plain numbers")
    if tensor.device.type == "meta":
        raise InvalidInput(f"{label} is a tensor without values, on the device meta")
    x = tensor.detach().cpu().resolve_conj().resolve_neg()
    if x.dim() == 4 and x.shape[0] == 1:
        x = x[0]
    if x.dim() != 3 or x.shape[0] not in (1, 3):
        raise InvalidInput(
            f"{label} is a tensor of shape {tuple(tensor.shape)}, expected (3, H, W)"
        )
    if x.is_floating_point() and x.dtype not in (torch.float32, torch.float64):
        x = x.float()  # numpy lacks bfloat16 and those of 8 bits
    return _from_array(x.permute(1, 2, 0).numpy(), label)


def _from_array(array: NDArray[Any], label: str) -> Pixels:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise InvalidInput(f"{label} is an array of shape {array.shape}, expected (H, W, 3)")
    if array.dtype.kind == "u":
        values = array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    elif array.dtype.kind == "f":
        values = array.astype(np.float32)
        if not np.isfinite(values).all():
            raise InvalidInput(f"{label} holds NaN or infinity")
        if values.min() < 0 or values.max() > 1:
            raise InvalidInput(
                f"{label} has values from {values.min():g} to {values.max():g}, expected [0, 1]"
            )
    else:
        raise InvalidInput(f"{label} has dtype {array.dtype}, expected unsigned integers or floats")
    if values.shape[2] == 1:
        return _grey_to_rgb(values[..., 0])
    if values.shape[2] == 4:  # alpha composited on white
        values = values[..., :3] * values[..., 3:] + (1 - values[..., 3:])
    return np.ascontiguousarray(values)


def _grey_to_rgb(grey: Pixels) -> Pixels:
    return np.ascontiguousarray(np.broadcast_to(grey[..., None], (*grey.shape, 3)))
