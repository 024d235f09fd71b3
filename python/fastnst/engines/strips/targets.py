"""The content targets of a picture in pieces: kept whole, or computed anew for each piece.

Computed by the evaluator that computes the pieces of the result, in the same pieces: so kept and
recomputed targets have the same bits, and memory alone decides which they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, cast

import torch
from torch import Tensor

from fastnst.devices import ordinary, undisturbed
from fastnst.engines.strips.evaluator import Evaluator, owned
from fastnst.losses import ContentLoss
from fastnst.objective.objective import Objective
from fastnst.ranks.share import Rows, Share
from fastnst.strips.geometry import Tile, level_of
from fastnst.strips.storage import Store, empty


class ContentTargets(Protocol):
    """Where the content representations of a picture come from."""

    def of(self, tile: Tile) -> Mapping[str, Tensor]:
        """P by layer at the positions that a piece owns, ``(1, C, rows, columns)``."""
        ...

    def release(self, tile: Tile) -> None:
        """Say that those of a piece are not needed for now."""
        ...


MakeTargets = Callable[[Evaluator, Share], ContentTargets]


class GivenTargets:
    """Those of the whole picture, given beforehand.

    Args:
        targets: P by layer, ``(1, C, H, W)``.
    """

    def __init__(self, targets: Mapping[str, Tensor]) -> None:
        self._targets = targets

    @classmethod
    def of_objective(cls, objective: Objective) -> GivenTargets:
        """Those that the content losses of an objective hold."""
        content = objective.content.items()
        return cls({layer: cast(ContentLoss, loss).target for layer, loss in content})

    def of(self, tile: Tile) -> Mapping[str, Tensor]:
        """P by layer at the positions that a piece owns."""
        found = {}
        for layer, target in self._targets.items():
            rows, columns = owned(tile, layer)
            found[layer] = target[:, :, rows, columns]
        return found

    def release(self, tile: Tile) -> None:
        """Nothing: they lie in memory."""


class KeptTargets:
    """Those of a rank's own pieces, computed once: 4 bytes for each number.

    Args:
        evaluator: What computes them; ``forward`` is called.
        share: The pieces.
        content: The content picture's rows that these need.
        store: Where they lie; None: in memory.
    """

    def __init__(
        self, evaluator: Evaluator, share: Share, content: Rows, store: Store | None = None
    ) -> None:
        self._store = store
        self._start = share.start
        self._targets: dict[str, Tensor] = {}  # in memory as (1, H, W, C)
        anew = RecomputedTargets(evaluator, content)
        size_at = evaluator.objective.network.architecture.size_at
        for tile in share.pieces():
            for layer, found in anew.of(tile).items():
                if layer not in self._targets:
                    level = level_of(layer)
                    height = (share.stop >> level) - (share.start >> level)
                    _, width = size_at(layer, (share.grid.height, share.grid.width))
                    shape = (1, height, width, found.shape[1])
                    self._targets[layer] = empty(shape, found, store).permute(0, 3, 1, 2)
                rows, columns = self._place(tile, layer)
                self._targets[layer][:, :, rows, columns] = found
            self.release(tile)

    def of(self, tile: Tile) -> Mapping[str, Tensor]:
        """P by layer at the positions that a piece owns."""
        found = {}
        for layer, target in self._targets.items():
            rows, columns = self._place(tile, layer)
            found[layer] = target[:, :, rows, columns]
        return found

    def release(self, tile: Tile) -> None:
        """Say that those of a piece are not needed for now."""
        if self._store is not None:
            for layer, target in self._targets.items():
                rows, _ = self._place(tile, layer)
                self._store.release(target[:, :, rows].permute(0, 2, 3, 1))

    def _place(self, tile: Tile, layer: str) -> tuple[slice, slice]:
        """Rows and columns of the positions that a piece owns, in the tensors kept here."""
        rows, columns = owned(tile, layer)
        first = self._start >> level_of(layer)
        return slice(rows.start - first, rows.stop - first), columns


class RecomputedTargets:
    """Those of a piece whenever they are asked for, one forward pass each time.

    Args:
        evaluator: What computes them; ``forward`` is called.
        content: The content picture's rows that the pieces need, kept.
    """

    def __init__(self, evaluator: Evaluator, content: Rows) -> None:
        self._evaluator = evaluator
        self._content = content

    def of(self, tile: Tile) -> Mapping[str, Tensor]:
        """P by layer at the positions that a piece owns."""
        if not self._evaluator.objective.content:
            return {}
        with undisturbed(), torch.no_grad():
            self._evaluator.forward(computed(self._content, tile), tile)
            return self._evaluator.content()

    def release(self, tile: Tile) -> None:
        """Nothing: they are gone already."""


def chosen(content: Tensor, keep: bool, store: Store | None) -> MakeTargets:
    """Targets that are made from a content picture ``(1, 3, H, W)``.

    Args:
        content: The content picture.
        keep: Whether to keep them, or else to compute them anew whenever they are asked for.
        store: Where they are kept; None: in memory.
    """

    def make(evaluator: Evaluator, share: Share) -> ContentTargets:
        rows = share.needed(ordinary(content.detach()))
        if keep:
            return KeptTargets(evaluator, share, rows, store)
        return RecomputedTargets(evaluator, rows)

    return make


def given(targets: Mapping[str, Tensor]) -> MakeTargets:
    """Targets P by layer, ``(1, C, H, W)``, that are there already."""
    return lambda *_: GivenTargets(targets)


def computed(rows: Rows, tile: Tile) -> Tensor:
    """The pixels that are computed for a piece, of the rows of a picture."""
    return rows.read(*tile.read, tile.columns.computed())
