"""Pictures in: files, PIL images, arrays and tensors become RGB (sRGB) in [0, 1], float32.

EXIF rotation is applied, ICC profiles are converted, alpha is composited on white; grey, palette, CMYK and
16-bit pictures are understood.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from fastnst import samples
from fastnst.errors import InvalidInput
from fastnst.images.pixels import Pixels

Picture: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor"
SAMPLE_PREFIX = "sample:"


def load_image(picture: Picture, label: str = "the picture") -> Pixels:
    """Decode a picture.

    Args:
        picture: A path, ``sample:NAME``, a PIL image, an array or a tensor. Arrays are
            ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)``; tensors ``(3, H, W)``,
            ``(1, H, W)`` or with a leading batch of 1. Integers span their dtype's range;
            floats are in [0, 1].
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
        return _from_array(picture, label)
    name = os.fspath(picture)
    if name.startswith(SAMPLE_PREFIX):
        return _from_pil(samples.load(name.removeprefix(SAMPLE_PREFIX)), name)
    return _from_file(Path(name))


def _from_file(path: Path) -> Pixels:
    with open_image(path) as file:
        return _from_pil(file, str(path))


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open a picture file without decoding its pixels: its size is known, and if it is too large.

    Raises:
        InvalidInput: if it is missing, a folder, empty, no picture or too large to decode; also for
            what goes wrong while the pixels are decoded inside the block.
    """
    if not path.exists():
        raise InvalidInput(f"{path} does not exist")
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder; a picture is needed")
    try:
        if path.stat().st_size == 0:
            raise InvalidInput(f"{path} is empty")
        with warnings.catch_warnings():
            # Pillow warns above 89 megapixels and refuses above 179, which is the limit here; it
            # also warns of damage in metadata, which does not matter if the pixels can be read.
            warnings.simplefilter("ignore")
            with Image.open(path) as file:
                yield file
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise InvalidInput(
            f"{path} has more than {limit / 1e6:.0f} megapixels, which is more than is decoded; "
            "scale it down first"
        ) from error
    except UnidentifiedImageError as error:
        raise InvalidInput(f"{path} is not a picture that can be read") from error
    except InvalidInput:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InvalidInput(f"{path} cannot be read: {reason}") from error


def _from_pil(image: Image.Image, label: str) -> Pixels:
    if min(image.size) < 1:
        raise InvalidInput(f"{label} has no pixels")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep_grey(image, label)
    image = _to_srgb(image)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    pixels: Pixels = np.asarray(image.convert("RGB"), np.float32) / np.float32(255)
    return pixels


def _from_deep_grey(image: Image.Image, label: str) -> Pixels:
    """One channel of 16-bit or 32-bit integers, or floats."""
    values = np.asarray(image, np.float32)
    if not np.isfinite(values).all():
        raise InvalidInput(f"{label} holds NaN or infinity")
    largest = float(values.max(initial=0))
    white = 65535.0 if image.mode != "F" or largest > 255 else 255.0 if largest > 1 else 1.0
    return _grey_to_rgb((values / np.float32(white)).clip(0, 1))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Apply an embedded ICC profile. A profile that is broken or does not fit is ignored."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "L", "CMYK"):
        return image
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode=mode,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return converted if converted is not None else image


def _from_tensor(tensor: Tensor, label: str) -> Pixels:
    x = tensor.detach().cpu()
    if x.dim() == 4 and x.shape[0] == 1:
        x = x[0]
    if x.dim() != 3 or x.shape[0] not in (1, 3):
        raise InvalidInput(
            f"{label} is a tensor of shape {tuple(tensor.shape)}, expected (3, H, W)"
        )
    if x.dtype == torch.bfloat16:
        x = x.float()
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
