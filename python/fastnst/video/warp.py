"""A picture seen along an optical flow: y(p) = x(p + v(p)), interpolated between pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def warp(image: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """Take each pixel of a frame from where the flow says that it is in another one.

    Args:
        image: The other frame, ``(1, C, H, W)``.
        flow: ``(H, W, 2)``, in pixels: how far right and how far down of itself each pixel is in
            ``image``. What lies outside is taken from the edge.
        mode: ``bilinear``; or ``bicubic`` (a = −0.75), which keeps fine strokes sharp where a frame
            is warped again and again, and overshoots a little at edges.

    Returns:
        ``(1, C, H, W)``, of the dtype of ``image``.
    """
    height, width = image.shape[-2:]
    at = flow.double()
    rows = torch.arange(height, dtype=at.dtype, device=at.device)[:, None]
    columns = torch.arange(width, dtype=at.dtype, device=at.device)[None]
    # From pixels to [−1, 1], the centres of the outermost pixels; a single pixel is all there is.
    x = 2 * (columns + at[..., 0]) / max(width - 1, 1) - 1
    y = 2 * (rows + at[..., 1]) / max(height - 1, 1) - 1
    grid = torch.stack((x, y), dim=-1)[None]
    warped = functional.grid_sample(
        image.double(), grid, mode=mode, padding_mode="border", align_corners=True
    )
    return warped.to(image.dtype)


def inside(flow: Tensor) -> Tensor:
    """Which pixels the flow ``(H, W, 2)`` takes from within the other frame: ``(H, W)`` bool."""
    height, width = flow.shape[:2]
    x = torch.arange(width, device=flow.device)[None] + flow[..., 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[..., 1]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
