"""Bands of one picture on several processes, without halos: rows are exchanged after every layer.

The bands that a process owns are one piece. Around its own rows a piece has a margin, and before a
convolution reads it, its nearest row comes from the neighbour that owns it: a row of features on
the way forward, a row of gradients on the way back. All of a piece's Winograd tiles are the whole
picture's, with the same numbers in them; so every feature and every gradient has the bits that one
process computes for the whole picture, and nothing is computed twice. What is added up over
positions is added by band, whoever owns it.

While rows are on their way a rank computes those of the next convolution that do not read them,
which are all but the outermost tiles, and then the others. So it waits only for a neighbour that is
later than these take.

There are 13 exchanges each way for VGG-19 to relu5_1, of a row of each layer's features; in return
all features of a piece are in memory at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fastnst.cache import Cache
from fastnst.engines.planned.walk import Layer
from fastnst.engines.strips.engine import StripEngine, total_variation
from fastnst.engines.strips.evaluator import Sums
from fastnst.engines.strips.native import TILES, NativeEvaluator
from fastnst.engines.strips.targets import MakeTargets
from fastnst.objective.objective import Objective
from fastnst.ranks.protocol import Alone, Communication
from fastnst.ranks.share import Rows
from fastnst.strips.geometry import Grid, Span, Tile, level_of
from fastnst.strips.storage import Store


class ExchangingEvaluator(NativeEvaluator):
    """Computes one piece of whole rows, with rows of features from its neighbours.

    Args:
        objective: As for ``NativeEvaluator``, like all that follow but the last.
        communication: How this process speaks to those with the other bands; None: it has all.
    """

    def __init__(
        self,
        objective: Objective,
        precision: str = "fp32",
        name: str = "native",
        cache: Cache | None = None,
        back: str | None = None,
        communication: Communication | None = None,
    ) -> None:
        super().__init__(objective, precision, name, cache, back)
        # In the picture's own tiles on the way back too, which are of 4 for products in bfloat16.
        if self._tile_back is None:
            self._tile_back = TILES["bf16"]
        self._communication = communication or Alone()
        self._piece: Tile | None = None
        self._part: Span | None = None  # the rows of it that are being computed
        self._arriving: list[Callable[[], None]] = []  # wait for rows that are on their way
        self._seen_rows = slice(0, 0)  # of the margin and the piece: its own, and one on each side

    def forward(self, pixels: Tensor, tile: Tile) -> None:
        """Compute the features of a piece, of its own pixels and a row on either side.

        All processes call it together.
        """
        self._piece = self._tile_seen = tile
        self._part = tile.rows
        self._seen_rows = slice(*(row - tile.rows.low for row in tile.read))
        pixels = pixels.contiguous()
        if self._gradient.shape != pixels.shape or self._gradient.dtype != pixels.dtype:
            self._allocate(tile.rows.computed_length, pixels.shape[-1])
            self._gradient = torch.empty_like(pixels)
        self._forward(pixels)

    def select(self, tile: Tile) -> None:
        """Have ``compare_with`` and ``sums`` be for some bands of the piece."""
        self._tile_seen = tile

    def gradient(self) -> Tensor:
        """The gradient at the piece's own pixels."""
        self._tile_seen = self._piece
        self._backward()
        own, above = self._rows_at(self.layers[0].conv), self._seen_rows.start
        return self._gradient[..., own.start - above : own.stop - above, :]

    # --------------------------------------------------------------------------------- the walk --

    def _convolve(self, x: Tensor, layer: Layer) -> Tensor:
        if layer.below is None:
            found, before = self.features[layer.relu], self.features.get(layer.conv)
            before = None if before is None else before[:, self._seen_rows]
            self._convolve_image(x, layer, found[:, self._seen_rows], before)
        else:
            found = self._compute(partial(super()._convolve, x, layer))
        if layer != self.layers[-1]:
            self._exchange(found, layer.output)
        return found

    def _convolve_back(self, gradient: Tensor, layer: Layer) -> Tensor:
        positive = self._positive.get(layer.name)
        if positive is None:
            self._exchange(gradient, layer.conv)
        else:  # the gradient is still that at the pooling
            assert layer.pool is not None
            self._exchange(gradient, layer.pool)
            self._exchange(positive, layer.conv)
        return self._compute(partial(super()._convolve_back, gradient, layer))

    def _to_image(self, gradient: Tensor) -> None:
        self._exchange(gradient, self.layers[0].conv)
        self._await_rows()
        super()._to_image(gradient[:, self._seen_rows])

    def _compute(self, convolve: Callable[[], Tensor]) -> Tensor:
        """Compute a convolution: what reads no neighbour's row, and when these are there the rest.

        Args:
            convolve: Computes the rows ``_part``, in the same memory each time.
        """
        assert self._piece is not None
        self._part, outer = _divide(self._piece.rows)
        found = convolve() if self._part.owned_length else None
        self._await_rows()
        for part in outer:
            self._part = part
            found = convolve()
        self._part = self._piece.rows
        assert found is not None
        return found

    def _exchange(self, x: Tensor, layer: str) -> None:
        """Have the neighbours' rows put beside those of ``(1, H, W, C)``, which lies at a layer.

        They are there, and x may change, after ``_await_rows``.
        """
        assert self._piece is not None
        own = self._piece.rows.owned_within(level_of(layer))
        first, last = x[:, own.start : own.start + 1], x[:, own.stop - 1 : own.stop]
        arrival = self._communication.begin_exchange(first, last)

        def put() -> None:
            above, below = arrival()
            if above is not None:
                x[:, own.start - 1 : own.start] = above
            if below is not None:
                x[:, own.stop : own.stop + 1] = below

        self._arriving.append(put)

    def _await_rows(self) -> None:
        """Wait for all rows that are on their way."""
        while self._arriving:
            self._arriving.pop(0)()

    def _rows_at(self, layer: str) -> slice:
        """The rows of a layer that are being computed, counted from the first of the margin."""
        assert self._part is not None
        return self._part.owned_within(level_of(layer))


def _divide(piece: Span) -> tuple[Span, list[Span]]:
    """The rows of a piece that read no neighbour's row at any level, and the others.

    Both end where tiles do: as many rows as the margin has, which is aligned.
    """
    first, last = piece.start + (piece.start - piece.low), piece.stop - (piece.high - piece.stop)
    if first >= last:  # each of its tiles reads a neighbour's row
        return replace(piece, stop=piece.start), [piece]
    outer = [replace(piece, stop=first), replace(piece, start=last)]
    return replace(piece, start=first, stop=last), [part for part in outer if part.owned_length]


class ExchangeEngine(StripEngine):
    """Evaluates an objective over bands whose owners exchange rows of features.

    What it takes and raises is as for ``StripEngine``; the evaluator speaks to the same processes.
    """

    def __init__(
        self,
        evaluator: ExchangingEvaluator,
        grid: Grid,
        targets: MakeTargets | None = None,
        store: Store | None = None,
        communication: Communication | None = None,
    ) -> None:
        super().__init__(evaluator, grid, targets, store, communication)
        self._evaluator = evaluator

    def _parts(self, rows: Rows) -> Iterator[tuple[Span, Sums]]:
        (piece,) = self._share.pieces()
        self._forward(rows, piece)
        for band in self._share.bands:
            within = replace(band, low=piece.rows.low, high=piece.rows.high)
            tile = replace(piece, index=band.index, rows=within)
            self._evaluator.select(tile)
            self._evaluator.compare_with(self._targets.of(tile))
            yield band, self._evaluator.sums()
            self._targets.release(tile)
        self._evaluator.compare_with(self._targets.of(piece))

    def _find_gradient(self, rows: Rows) -> None:
        gradient = self._gradient.copy_(self._evaluator.gradient())
        if self.objective.tv_weight:
            self._add_total_variation(rows, gradient)

    def _add_total_variation(self, rows: Rows, gradient: Tensor) -> None:
        """Add its gradient: to a band's rows its own, then what the band before gives the first."""
        start, last = self._share.start, gradient.new_zeros(gradient[..., :1, :].shape)
        following: dict[int, Tensor] = {}  # by the row that it is for
        for band in self._share.bands:
            _, found = total_variation(self.objective, rows, band, gradient=True)
            assert found is not None
            found = found * self.objective.tv_weight
            gradient[..., band.start - start : band.stop - start, :] += found[
                ..., : band.owned_length, :
            ]
            if not band.is_last:
                following[band.stop - start] = found[..., band.owned_length :, :]
        for row, found in following.items():
            if row < gradient.shape[-2]:
                gradient[..., row : row + 1, :] += found
            else:
                last = found
        before, _ = self._communication.exchange(torch.zeros_like(last), last)
        if before is not None:
            gradient[..., :1, :] += before
