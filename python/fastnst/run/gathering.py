"""Whole pictures of what several ranks have of them."""

from __future__ import annotations

from torch import Tensor

from fastnst.images.pixels import Pixels, reduced, reduction
from fastnst.ranks.communication import current
from fastnst.ranks.share import Share
from fastnst.run.finish import finished, finished_small
from fastnst.run.shared_rows import SharedRows


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


def small(own: Tensor, share: Share | None, colours: Tensor | None, longest: int) -> Pixels:
    """A picture as it is shown, reduced to at most ``longest`` pixels a side.

    Where several ranks share it they all call this together, and rank 0 never has the whole of it;
    what the others get is made of their own rows, and nobody looks at it. Arguments as above.
    """
    if share is None or share.communication.ranks == 1:
        return finished_small(own, colours, longest)
    rows = SharedRows(own, share, colours)
    if reduction(rows.height, rows.width, longest) == 1:
        return finished(*whole(own, share, colours))
    with rows.serving():
        if share.communication.rank > 0:
            return finished_small(own, None, longest)
        image = rows.reduced(longest)
    return finished(image, None if colours is None else reduced(colours, longest))


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
