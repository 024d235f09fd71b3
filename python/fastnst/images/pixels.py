"""Pixels, ``(H, W, 3)`` float32 RGB in [0, 1], and the tensors and images that they become."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

Pixels: TypeAlias = "NDArray[np.float32]"

STRIP_PIXELS = 1 << 22  # rounded at a time, so that a large picture is not copied in float32


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Lanczos resampling of ``(H, W, 3)`` to ``(height, width, 3)``, clipped to [0, 1]."""
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


def reduced(image: Tensor, longest: int) -> Tensor:
    """A picture ``(1, 3, H, W)`` at a whole fraction of its size: means of squares of pixels.

    Args:
        image: The picture.
        longest: Long side of the result in pixels, at most; but no side becomes less than one.

    Returns:
        The picture itself where it is small enough. Rows and columns that fill no square are left
        out.
    """
    factor = reduction(image.shape[-2], image.shape[-1], longest)
    return image if factor == 1 else avg_pool2d(image.detach(), factor)


def reduction(height: int, width: int, longest: int) -> int:
    """How many rows and columns become one where ``reduced`` makes a picture smaller."""
    return min(-(-max(height, width) // longest), height, width)


def to_tensor(pixels: Pixels) -> Tensor:
    """``(H, W, 3)`` to ``(1, 3, H, W)``, float32."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]


def to_pixels(image: Tensor) -> Pixels:
    """``(1, 3, H, W)`` on any device to ``(H, W, 3)`` float32, clipped to [0, 1]."""
    pixels: Pixels = image.detach()[0].permute(1, 2, 0).float().clamp(0, 1).cpu().numpy()
    return pixels


def to_pil(pixels: Pixels) -> Image.Image:
    """``(H, W, 3)`` in [0, 1] to an 8-bit RGB PIL image."""
    levels = np.empty(pixels.shape, np.uint8)
    step = max(1, STRIP_PIXELS // pixels.shape[1])
    for start in range(0, pixels.shape[0], step):
        levels[start : start + step] = (pixels[start : start + step] * 255).round()
    return Image.fromarray(levels)
