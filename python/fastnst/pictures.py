"""The image loader: a content, a style and a start picture as tensors of one run."""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from fastnst import memory
from fastnst.colour import match_colours
from fastnst.errors import InvalidInput
from fastnst.images import Picture, load_image, resize, scaled_size, to_tensor
from fastnst.kept import Kept
from fastnst.settings import Settings

NOISE_MEAN, NOISE_STD = 0.5, 0.05


@dataclass(frozen=True)
class Pictures:
    """What a run works on: RGB in [0, 1], float32, on the CPU.

    Attributes:
        content: ``(1, 3, H, W)``, scaled to the size of the result.
        style: ``(1, 3, h, w)``, scaled, in its own aspect ratio unless ``style_fit="content"``.
        start: ``(1, 3, H, W)``, where the optimisation starts.
    """

    content: Tensor
    style: Tensor
    start: Tensor


def load_pictures(
    content: Picture,
    style: Picture,
    settings: Settings,
    size: int,
    device: torch.device | None = None,
    kept: Kept | None = None,
) -> Pictures:
    """Load and scale the pictures of one run.

    Args:
        content: Anything that ``load_image`` takes.
        style: Likewise.
        settings: ``init``, ``style_fit`` and ``seed`` are read from here.
        size: Long side of the result in pixels; 0 keeps the content's own size.
        device: Where the run will be (the CPU by default): its memory must suffice for the size,
            which is checked before anything is scaled.
        kept: Styles scaled by earlier calls, to be used again.

    Raises:
        InvalidInput: for a picture that cannot be used, or a size that does not fit in memory.
    """
    content_pixels = load_image(content, "content")
    width, height = scaled_size(content_pixels.shape[1], content_pixels.shape[0], size)
    memory.check(width, height, settings, device or torch.device("cpu"))
    content_tensor = to_tensor(resize(content_pixels, width, height))

    own_shape = settings.style_fit == "aspect"
    wanted = (max(width, height),) if own_shape else (width, height)

    def scaled_style() -> Tensor:
        pixels = load_image(style, "style")
        sides = scaled_size(pixels.shape[1], pixels.shape[0], wanted[0]) if own_shape else wanted
        return to_tensor(resize(pixels, *sides))

    key = (version(style), wanted)
    style_tensor = (kept or Kept()).get("styles", key, scaled_style)
    return Pictures(content_tensor, style_tensor, _start(content_tensor, style_tensor, settings))


def version(picture: Picture) -> Hashable:
    """What tells a picture from others, and a file from what it was before it changed."""
    if not isinstance(picture, (str, os.PathLike)):
        return object()  # equal to nothing: it may change in place
    path = Path(picture)
    if not path.exists():
        return os.fspath(picture)
    stat = path.stat()
    return path.resolve(), stat.st_mtime_ns, stat.st_size


def white_noise(like: Tensor, seed: int) -> Tensor:
    """Gaussian white noise around mid-grey, N(0.5, 0.05²) clamped to [0, 1], of ``like``'s shape.

    Noise of a large amplitude survives the optimisation as grain: uniform noise over [0, 1] ended
    in a dithered picture, with the same loss.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(like.shape, generator=generator, dtype=torch.float32)
    return (NOISE_MEAN + NOISE_STD * noise).clamp_(0, 1)


def _start(content: Tensor, style: Tensor, settings: Settings) -> Tensor:
    if settings.init == "noise":
        return white_noise(content, settings.seed)
    if settings.init == "content":
        return content.clone()
    if settings.init == "matched":
        return match_colours(content, style)
    try:
        pixels: NDArray[Any] = load_image(settings.init)
    except InvalidInput as error:
        raise InvalidInput(f"init: {error} (or use noise, content or matched)") from error
    return to_tensor(resize(pixels, content.shape[3], content.shape[2]))
