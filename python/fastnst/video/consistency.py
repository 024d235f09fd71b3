"""Which pixels of an optical flow can be trusted (Ruder, Dosovitskiy and Brox 2016, §4.2 and §4.3).

With w the flow from an earlier frame to the one at hand, ŵ = (û, v̂) the flow back from it, and
w̃(p) = w(p + ŵ(p)) (equation 4), a pixel is not reliable

    where it was hidden:        |w̃ + ŵ|²      > 0.01 (|w̃|² + |ŵ|²) + 0.5     (equation 5)
    at the edge of a motion:    |∇û|² + |∇v̂|² > 0.01 |ŵ|² + 0.002            (equation 6)

after Sundaram, Brox and Keutzer 2010; and where it comes from outside the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastnst.video.warp import inside, warp


class Consistency(NamedTuple):
    """What a frame shows of an earlier one, ``(1, 1, H, W)`` float32 each: 1 where it does, else 0.

    Attributes:
        seen: Where a pixel was not hidden or outside: a start may be taken from there.
        reliable: c, where it is at no edge of a motion either: a frame may be held to that.
    """

    seen: Tensor
    reliable: Tensor


def consistency(forward: Tensor, backward: Tensor) -> Consistency:
    """Which pixels of a frame are seen in an earlier one.

    Args:
        forward: The flow w from the earlier frame to the one at hand, ``(H, W, 2)``.
        backward: The flow ŵ from the one at hand to the earlier frame.
    """
    there = warp(_planes(forward), backward)[0].permute(1, 2, 0)
    hidden = _square(there + backward) > 0.01 * (_square(there) + _square(backward)) + 0.5
    slopes = torch.zeros_like(backward[..., 0])
    for part in backward.unbind(-1):
        for dim in (0, 1):
            slopes += _slope(part, dim).square()
    edge = slopes > 0.01 * _square(backward) + 0.002
    seen = (inside(backward) & ~hidden).float()[None, None]
    return Consistency(seen, seen * (~edge).float())


def counted_once(reliabilities: Sequence[Tensor]) -> list[Tensor]:
    """Long-term consistency: each pixel is held to the nearest frame that it is seen in.

    c_long of the frame at distance j is max (c_j − Σ_{k<j} c_k, 0) (equation 10).

    Args:
        reliabilities: c of the frames before, the nearest first, ``(1, 1, H, W)`` each.
    """
    found: list[Tensor] = []
    before: Tensor | None = None
    for c in reliabilities:
        found.append(c if before is None else (c - before).clamp(min=0))
        before = c if before is None else before + c
    return found


def _planes(flow: Tensor) -> Tensor:
    return flow.permute(2, 0, 1)[None]


def _square(flow: Tensor) -> Tensor:
    return flow.square().sum(-1)


def _slope(x: Tensor, dim: int) -> Tensor:
    """Central differences, one-sided at the edges; 0 along a side of one pixel."""
    if x.shape[dim] < 2:
        return torch.zeros_like(x)
    (slope,) = torch.gradient(x, dim=dim)
    return slope
