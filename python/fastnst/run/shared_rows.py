"""The rows of a picture that several ranks share, for rank 0, which asks the others for them.

Rank 0 has a few rows of the whole at a time, whatever the size of the picture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from fastnst.errors import RankLost
from fastnst.images.pixels import Pixels, reduction
from fastnst.images.rows import STRIP_BYTES
from fastnst.ranks.share import Share
from fastnst.run.finish import finished


class SharedRows:
    """A picture by rows, clipped to [0, 1]: a ``RowSource`` of rank 0 while others serve it.

    Args:
        own: The rows of this rank, ``(1, 3, rows, W)``.
        share: What it owns.
        colours: The whole picture whose colours the result is given, or None.
    """

    def __init__(self, own: Tensor, share: Share, colours: Tensor | None) -> None:
        self.height, self.width = share.grid.height, share.grid.width
        self._own, self._share, self._colours = own.detach(), share, colours
        self._lost: RankLost | None = None
        speech, rows = share.communication, share.grid.rows
        owners = [share.grid.share(rank, speech.ranks) for rank in range(speech.ranks)]
        self._owned = [(rows[of[0]].start, rows[of[-1]].stop) for of in owners]

    @property
    def own_colours(self) -> Tensor | None:
        """The rows of the picture whose colours the result is given that are this rank's."""
        if self._colours is None:
            return None
        return self._colours[..., self._share.start : self._share.stop, :]

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Within, rank 0 may ask for rows. Any other rank gives them first, until rank 0 is done.

        All ranks enter it together.

        Raises:
            RankLost: if a rank is gone; so does what asks for rows.
        """
        speech = self._share.communication
        if speech.rank > 0:
            while (asked := speech.broadcast(None)) is not None:
                self._exchange(*asked)
            yield
            return
        try:
            yield
        except BaseException:
            if self._lost is None:
                with contextlib.suppress(RankLost):
                    speech.broadcast(None)
            raise
        speech.broadcast(None)

    def rows(self, start: int, stop: int) -> Pixels:
        """The rows ``start`` to ``stop - 1`` on rank 0, ``(stop - start, W, 3)`` float32."""
        colours = None if self._colours is None else self._colours[..., start:stop, :]
        return finished(self.values(start, stop), colours)

    def values(self, start: int, stop: int) -> Tensor:
        """The same as the solver has them, ``(1, 3, stop - start, W)`` on the CPU."""
        if self._lost is not None:  # who writes a picture may try again elsewhere
            raise self._lost
        try:
            self._share.communication.broadcast((start, stop))
            return self._exchange(start, stop)
        except RankLost as error:
            self._lost = error
            raise

    def reduced(self, longest: int) -> Tensor:
        """The picture at a whole fraction of its size, on rank 0, as ``pixels.reduced`` makes it.

        Args:
            longest: Long side in pixels, at most.
        """
        factor = reduction(self.height, self.width, longest)
        step = factor * max(1, STRIP_BYTES // (12 * self.width * factor))
        last = self.height // factor * factor
        found = [
            avg_pool2d(self.values(start, min(start + step, last)), factor)
            for start in range(0, last, step)
        ]
        return torch.cat(found, -2)

    def _exchange(self, start: int, stop: int) -> Tensor:
        """Give rank 0 those of the rows that are this rank's; what rank 0 gets is all of them."""
        speech = self._share.communication
        mine = self._own[..., self._within(speech.rank, start, stop), :].cpu()
        if speech.rank > 0:
            speech.all_to_all([(0, mine)] if mine.shape[-2] else [], [])
            return mine
        found = [mine]
        for rank in range(1, speech.ranks):
            rows = self._within(rank, start, stop)
            found.append(mine.new_empty((*mine.shape[:-2], rows.stop - rows.start, self.width)))
        speech.all_to_all([], [(rank, x) for rank, x in enumerate(found) if rank > 0])
        return torch.cat(found, -2)

    def _within(self, rank: int, start: int, stop: int) -> slice:
        """Which of a rank's rows are among those from ``start`` to ``stop - 1``."""
        first, last = self._owned[rank]
        low, high = max(start, first), min(stop, last)
        return slice(low - first, high - first) if low < high else slice(0, 0)
