"""Scene cuts: where a frame has little to do with the frame before it."""

from __future__ import annotations

from torch import Tensor

RELIABLE = 0.35  # of the pixels, below which a frame may follow a cut
DIFFERENCE = 0.06  # of the colours, after the motion is taken out, above which it does


def is_cut(content: Tensor, warped: Tensor, reliable: Tensor) -> bool:
    """Whether a scene begins with a frame.

    The flow between two scenes is nonsense: hardly any of it is the same back and forth, and what
    it brings over has other colours. Neither alone will do: a fast pan leaves few pixels reliable,
    and a flash of light changes all colours.

    Args:
        content: The frame, ``(1, 3, H, W)``.
        warped: The frame before, warped to it along the flow.
        reliable: Which pixels of the flow are reliable, ``(1, 1, H, W)``.
    """
    difference = float((content - warped).abs().mean())
    return float(reliable.mean()) < RELIABLE and difference > DIFFERENCE
