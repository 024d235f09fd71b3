"""Pictures in and out: decode, resize, encode.

Everything becomes RGB (sRGB) in [0, 1], float32: EXIF rotation applied, ICC profiles converted,
alpha composited on white, grey, palette, CMYK and 16-bit pictures understood.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from fastnst import files, samples
from fastnst.deep_colour import encode_png16, encode_tiff16
from fastnst.errors import InvalidInput

Picture: TypeAlias = "str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor"
Pixels: TypeAlias = "NDArray[np.float32]"

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
SAMPLE_PREFIX = "sample:"
_SIXTEEN_BIT = ("PNG", "TIFF")


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


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Lanczos resampling of ``(H, W, 3)`` in [0, 1] to ``(height, width, 3)``, clipped to [0, 1]."""
    if pixels.shape[:2] == (height, width):
        return pixels
    channels = [
        Image.fromarray(np.ascontiguousarray(pixels[..., c])).resize(
            (width, height), Image.Resampling.LANCZOS, reducing_gap=None
        )
        for c in range(pixels.shape[2])
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1).clip(0, 1)


def scaled_size(width: int, height: int, long_side: int) -> tuple[int, int]:
    """Width and height with the same aspect ratio and the given long side; 0 keeps the size."""
    if long_side == 0:
        return width, height
    scale = long_side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def to_tensor(pixels: Pixels) -> Tensor:
    """``(H, W, 3)`` to ``(1, 3, H, W)``, float32."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]


def digest(image: Tensor) -> str:
    """SHA-256 of a tensor's shape, dtype and values."""
    about = f"{tuple(image.shape)} {image.dtype} ".encode()
    values = image.detach().cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.sha256(about + values.tobytes()).hexdigest()


def to_pixels(image: Tensor) -> Pixels:
    """``(1, 3, H, W)`` on any device to ``(H, W, 3)`` float32, clipped to [0, 1]."""
    pixels: Pixels = image.detach()[0].permute(1, 2, 0).float().clamp(0, 1).cpu().numpy()
    return pixels


def to_pil(pixels: Pixels) -> Image.Image:
    """``(H, W, 3)`` in [0, 1] to an 8-bit RGB PIL image."""
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


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
