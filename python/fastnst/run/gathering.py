"""Whole pictures of what several ranks have of them."""

from __future__ import annotations

from torch import Tensor

from fastnst.ranks.communication import current
from fastnst.ranks.share import Share


def whole(own: Tensor, share: Share | None, colours: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """A picture, and the picture whose colours it is given.

    Where several ranks share it they all call this together. Rank 0 has the whole of it then; the
    others have the rows that they own, which nobody looks at, in their own colours.

    Args:
        own: What this rank has of it, ``(1, 3, rows, W)``.
        share: What this rank owns; None: all.
        colours: The picture whose colours the result is given, or None.
    """
    if share is None or share.communication.ranks == 1:
        return own, colours
    found = share.whole(own)
    return (own, None) if found is None else (found, colours)


def everywhere(best: Tensor, share: Share | None) -> Tensor:
    """The whole of the best picture, the same on every rank, which the next scale begins at.

    Args:
        best: What this rank has of it, ``(1, 3, rows, W)``.
        share: What this rank owns; None: all.
    """
    if share is not None and share.communication.ranks > 1:
        return share.everywhere(best)
    speech = current()
    if speech.ranks == 1:
        return best
    # Each rank has computed all of it, on machines that may round otherwise.
    return speech.collect(best if speech.rank == 0 else best[..., :0])[0]
