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
from fastnst.engines.strips.evaluator import Evaluator, cut, owned
from fastnst.losses import ContentLoss
from fastnst.objective.objective import Objective
from fastnst.strips.geometry import Grid, Tile
from fastnst.strips.storage import Store, empty


class ContentTargets(Protocol):
    """Where the content representations of a picture come from."""

    def of(self, tile: Tile) -> Mapping[str, Tensor]:
        """P by layer at the positions that a piece owns, ``(1, C, rows, columns)``."""
        ...

    def release(self, tile: Tile) -> None:
        """Say that those of a piece are not needed for now."""
        ...


MakeTargets = Callable[[Evaluator, Grid], ContentTargets]


class GivenTargets:
    """Those that the content losses of an objective hold.

    Args:
        objective: Of the whole picture.
    """

    def __init__(self, objective: Objective) -> None:
        self._targets: dict[str, Tensor] = {
            layer: cast(ContentLoss, loss).target for layer, loss in objective.content.items()
        }

    def of(self, tile: Tile) -> Mapping[str, Tensor]:
        """P by layer at the positions that a piece owns."""
        found = {}
        for layer, target in self._targets.items():
            rows, columns = owned(tile, layer)
            found[layer] = target[:, :, rows, columns]
        return found

    def release(self, tile: Tile) -> None:
        """Nothing: they lie in memory."""


class KeptTargets(GivenTargets):
    """Those of all pieces, computed once: 4 bytes for each number.

    Args:
        evaluator: What computes them; ``forward`` is called.
        grid: How the picture is cut.
        content: The content picture ``(1, 3, H, W)``, of the grid's size.
        store: Where they lie; None: in memory.
    """

    def __init__(
        self, evaluator: Evaluator, grid: Grid, content: Tensor, store: Store | None = None
    ) -> None:
        self._store = store
        self._targets = {}  # in memory as (1, H, W, C)
        computed = RecomputedTargets(evaluator, content)
        size_at = evaluator.objective.network.architecture.size_at
        for tile in grid:
            for layer, found in computed.of(tile).items():
                if layer not in self._targets:
                    height, width = size_at(layer, (grid.height, grid.width))
                    shape = (1, height, width, found.shape[1])
                    self._targets[layer] = empty(shape, found, store).permute(0, 3, 1, 2)
                rows, columns = owned(tile, layer)
                self._targets[layer][:, :, rows, columns] = found
            self.release(tile)

    def release(self, tile: Tile) -> None:
        """Say that those of a piece are not needed for now."""
        if self._store is not None:
            for layer, target in self._targets.items():
                self._store.release(target[:, :, owned(tile, layer)[0]].permute(0, 2, 3, 1))


class RecomputedTargets:
    """Those of a piece whenever they are asked for, one forward pass each time.

    Args:
        evaluator: What computes them; ``forward`` is called.
        content: The content picture ``(1, 3, H, W)``, kept.
    """

    def __init__(self, evaluator: Evaluator, content: Tensor) -> None:
        self._evaluator = evaluator
        self._content = ordinary(content.detach())

    def of(self, tile: Tile) -> Mapping[str, Tensor]:
        """P by layer at the positions that a piece owns."""
        if not self._evaluator.objective.content:
            return {}
        with undisturbed(), torch.no_grad():
            self._evaluator.forward(cut(self._content, tile), tile)
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

    def make(evaluator: Evaluator, grid: Grid) -> ContentTargets:
        if keep:
            return KeptTargets(evaluator, grid, content, store)
        return RecomputedTargets(evaluator, content)

    return make
