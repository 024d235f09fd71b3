"""Which bands of a picture a rank owns, and its rows with those of its neighbours around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.ranks.protocol import Alone, Communication
from fastnst.strips.geometry import Grid, Span, Tile


@dataclass(frozen=True)
class Share:
    """What one rank owns of a picture: consecutive bands of rows.

    Attributes:
        grid: How the picture is cut.
        bands: Those of the grid's bands that are this rank's, from top to bottom.
        communication: How it speaks to the others.
    """

    grid: Grid
    bands: tuple[Span, ...]
    communication: Communication

    @classmethod
    def of(cls, grid: Grid, communication: Communication) -> Share:
        """The share of this process.

        Raises:
            InvalidInput: if there are more ranks than bands.
        """
        if reason := too_many_reason(grid, communication.ranks):
            raise InvalidInput(reason)
        return cls.part(grid, communication.rank, communication.ranks, communication)

    @classmethod
    def part(
        cls, grid: Grid, rank: int, ranks: int, communication: Communication | None = None
    ) -> Share:
        """The share of one of several processes, of no more than there are bands."""
        mine = grid.share(rank, ranks)
        bands = tuple(grid.rows[index] for index in mine)
        return cls(grid, bands, communication or Alone())

    @property
    def start(self) -> int:
        """The first row that this rank owns."""
        return self.bands[0].start

    @property
    def stop(self) -> int:
        """The row after the last that it owns."""
        return self.bands[-1].stop

    @property
    def low(self) -> int:
        """The first row that it needs: of the halo, or of the picture."""
        return self.bands[0].low

    @property
    def high(self) -> int:
        """The row after the last that it needs."""
        return self.bands[-1].high

    @property
    def reach(self) -> int:
        """How many rows of its neighbours it reads: those of the halo, or one."""
        rows = max(self.start - self.low, self.high - self.stop)
        return min(rows, 1) if self.grid.exchanges else rows

    @property
    def height(self) -> int:
        """The number of rows that it owns."""
        return self.stop - self.start

    def tiles(self, band: Span) -> Iterator[Tile]:
        """The pieces of a band, from left to right."""
        columns = self.grid.columns
        for column in columns:
            yield Tile(band.index * len(columns) + column.index, band, column)

    def pieces(self) -> list[Tile]:
        """What it computes: its tiles, or where rows are exchanged its bands together."""
        if not self.grid.exchanges:
            return [tile for band in self.bands for tile in self.tiles(band)]
        rows = Span(0, self.start, self.stop, self.low, self.high, self.grid.height)
        return [Tile(0, rows, self.grid.columns[0], exchanges=True)]

    def own(self, picture: Tensor) -> Tensor:
        """Its rows of a picture ``(…, H, W)``: a copy, unless they are all there are."""
        if self.height == self.grid.height:
            return picture
        return picture[..., self.start : self.stop, :].clone(memory_format=torch.contiguous_format)

    def needed(self, picture: Tensor) -> Rows:
        """Its rows of a picture ``(1, 3, H, W)``, and the halo's."""
        if self.height == self.grid.height:
            return Rows(0, picture)
        rows = picture[..., self.low : self.high, :]
        return Rows(self.low, rows.clone(memory_format=torch.contiguous_format))

    def extend(self, own: Tensor) -> Rows:
        """The rows that it owns ``(1, 3, h, W)``, and what it reads of its neighbours'."""
        reach = self.reach
        above, below = self.communication.exchange(own[..., :reach, :], own[..., -reach:, :])
        start = self.start - (0 if above is None else reach)
        return Rows(start, *(x for x in (above, own, below) if x is not None))

    def whole(self, own: Tensor) -> Tensor | None:
        """The whole picture on rank 0, of the rows that each rank owns; None elsewhere."""
        found = self.communication.gather({"rows": own.detach().cpu()})
        return None if found is None else torch.cat([part["rows"] for part in found], -2)

    def everywhere(self, own: Tensor) -> Tensor:
        """The whole picture on every rank."""
        return torch.cat(self.communication.collect(own.detach().cpu()), -2)

    def zeros(self, own: Tensor) -> Rows:
        """Zeros for the rows that ``extend`` gives: ``own`` is zeroed, and the halo's are new."""
        shape = own.shape[:-2]
        above = own.new_zeros((*shape, self.start - self.low, own.shape[-1]))
        below = own.new_zeros((*shape, self.high - self.stop, own.shape[-1]))
        return Rows(self.low, above, own.zero_(), below)

    def give_back(self, rows: Rows) -> None:
        """Add what this rank has found for rows of others to theirs, and what they have for its.

        Args:
            rows: What ``zeros`` returned, with what was added to it. Each of its rows then has
                what two bands at most have found, so that the order is of no account.
        """
        above, own, below = rows.parts
        halo = max(above.shape[-2], below.shape[-2])
        if self.communication.ranks == 1:
            return
        first, last = (
            part if part.shape[-2] else own.new_zeros((*own.shape[:-2], halo, own.shape[-1]))
            for part in (above, below)
        )
        before, after = self.communication.exchange(first, last)
        if before is not None:
            own[..., :halo, :] += before
        if after is not None:
            own[..., -halo:, :] += after


def too_many_reason(grid: Grid, ranks: int) -> str | None:
    """Why so many ranks cannot share a picture, or None if they can."""
    bands = len(grid.rows)
    if ranks <= bands:
        return None
    most = "one rank" if bands == 1 else f"{bands} ranks"
    return (
        f"{ranks} ranks are too many: a picture of {grid.width}×{grid.height} pixels has "
        f"{bands} band{'s' if bands > 1 else ''} of rows, for {most} at most"
    )


class Rows:
    """Rows of a picture in several tensors, one after the other, so that none has to be copied.

    Args:
        start: The first row, counted in the whole picture.
        parts: ``(1, 3, rows, W)`` each, from top to bottom; a part may have no rows.
    """

    def __init__(self, start: int, *parts: Tensor) -> None:
        self.start = start
        self.parts = parts

    def read(self, low: int, high: int, columns: slice = slice(None)) -> Tensor:
        """The rows ``low`` to ``high - 1``: a view where they lie in one tensor, else a copy."""
        found = [part[..., rows, columns] for part, rows, _ in self._within(low, high)]
        return found[0] if len(found) == 1 else torch.cat(found, -2)

    def add(self, low: int, values: Tensor, columns: slice = slice(None)) -> None:
        """Add values ``(1, 3, rows, columns)`` to the rows from ``low`` on."""
        for part, rows, given in self._within(low, low + values.shape[-2]):
            part[..., rows, columns].add_(values[..., given, :])

    def _within(self, low: int, high: int) -> Iterator[tuple[Tensor, slice, slice]]:
        """The parts that rows lie in, with the rows counted in the part and from ``low``."""
        at = self.start
        for part in self.parts:
            first, last = max(low, at), min(high, at + part.shape[-2])
            if first < last:
                yield part, slice(first - at, last - at), slice(first - low, last - low)
            at += part.shape[-2]
