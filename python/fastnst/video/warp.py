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
        mode: ``bilinear``; or ``spline``, which goes through the pixels as a cubic spline (Unser,
            Aldroubi and Eden 1991): it keeps fine strokes sharp where a frame is warped again and
            again, and overshoots a little at edges.

    Returns:
        ``(1, C, H, W)``, of the dtype of ``image``.
    """
    height, width = image.shape[-2:]
    at = flow.double()
    rows = torch.arange(height, dtype=at.dtype, device=at.device)[:, None]
    columns = torch.arange(width, dtype=at.dtype, device=at.device)[None]
    x = (columns + at[..., 0]).clamp(0, width - 1)
    y = (rows + at[..., 1]).clamp(0, height - 1)
    if mode == "bilinear":
        return _sample(image.double(), x, y).to(image.dtype)
    return _spline(_coefficients(image.double()), x, y).to(image.dtype)


def inside(flow: Tensor) -> Tensor:
    """Which pixels the flow ``(H, W, 2)`` takes from within the other frame: ``(H, W)`` bool."""
    height, width = flow.shape[:2]
    x = torch.arange(width, device=flow.device)[None] + flow[..., 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[..., 1]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def _sample(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear samples at ``(H, W)`` positions in pixels; beyond the edge it is mirrored there."""
    height, width = image.shape[-2:]
    # From pixels to [−1, 1], the centres of the outermost pixels; a single pixel is all there is.
    across, down = (2 * p / max(n - 1, 1) - 1 for p, n in ((x, width), (y, height)))
    grid = torch.stack((across, down), dim=-1)[None]
    return functional.grid_sample(
        image, grid, mode="bilinear", padding_mode="reflection", align_corners=True
    )


def _spline(coefficients: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Σ c_k β³(p − k), whose sixteen terms are four bilinear samples (Sigg and Hadwiger 2005)."""
    found: Tensor | None = None
    sides = [_pairs(position) for position in (x, y)]
    for across, share_across in sides[0]:
        for down, share_down in sides[1]:
            part = _sample(coefficients, across, down) * (share_across * share_down)
            found = part if found is None else found + part
    assert found is not None
    return found


def _pairs(position: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Two places along a line, each between two pixels, and what the spline takes from each."""
    whole = position.floor()
    t = position - whole
    outer, left = (1 - t) ** 3 / 6, 2 / 3 - t.square() * (2 - t) / 2
    right, last = 2 / 3 - (1 - t).square() * (1 + t) / 2, t**3 / 6
    before, after = outer + left, right + last
    return [(whole - 1 + left / before, before), (whole + 1 + last / after, after)]


def _coefficients(image: Tensor) -> Tensor:
    """The coefficients of the spline through the pixels, mirrored at the edges."""
    height, width = image.shape[-2:]
    along_rows = torch.linalg.solve(_through(width, image), image.mT).mT
    coefficients: Tensor = torch.linalg.solve(_through(height, image), along_rows)
    return coefficients


def _through(count: int, like: Tensor) -> Tensor:
    """From coefficients to pixels along a side: β³ at −1, 0, 1 is 1/6, 2/3, 1/6."""
    matrix = torch.zeros(count, count, dtype=like.dtype, device=like.device)
    matrix.diagonal().fill_(2 / 3)
    if count == 1:
        return matrix.fill_(1)
    matrix.diagonal(1).fill_(1 / 6)
    matrix.diagonal(-1).fill_(1 / 6)
    matrix[0, 1] = matrix[-1, -2] = 1 / 3
    return matrix
