"""One piece of a picture by the plan on a CPU: compiled convolutions and Gram matrices.

A piece's features are those of the whole picture only if all its Winograd tiles lie where the whole
picture's do: with one size of tiles in all layers (``TILES``), and pieces that begin at multiples
of it at the deepest level. Features that differ by rounding alone make some ReLUs open that were
closed, and the gradient then differs by about 1e-3.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from fastnst.cache import Cache
from fastnst.engines.planned.cpu import NativeEngine
from fastnst.engines.planned.workspace import Workspace
from fastnst.engines.strips.evaluator import Key
from fastnst.engines.strips.walk import PieceWalk
from fastnst.objective.objective import Objective
from fastnst.ops import gram

TILES = {"fp32": 6, "bf16": 4, "int16": 4}  # by precision: the others have tiles of 4 only


class NativeEvaluator(PieceWalk, NativeEngine):
    """Computes pieces with the walk of ``NativeEngine`` in one stretch of memory.

    Args:
        objective: Float32, on the CPU, of the whole picture.
        precision: ``fp32``, ``int16`` or ``bf16``.
        name: What the engine is called in results.
        cache: Transformed filters of the same network, to be used again.
        back: The precision of the products on the way back, as for ``NativeEngine``.
    """

    copied = 1 << 21

    def __init__(
        self,
        objective: Objective,
        precision: str = "fp32",
        name: str = "native",
        cache: Cache | None = None,
        back: str | None = None,
    ) -> None:
        NativeEngine.__init__(self, objective, precision, name, cache, TILES[precision], back)
        self._memory = self._new(0)
        self._compare_nothing()

    def another(self) -> NativeEvaluator:
        """One with a workspace of its own, and the same transformed filters."""
        found = copy.copy(self)
        found._memory, found._gradient = self._new(0), self._gradient.new_empty(0)
        return found

    def _new_workspace(self, shapes: list[tuple[int, ...]]) -> Workspace:
        """The slots of a piece, in memory that is kept for all of them."""
        needed = sum(torch.Size(shape).numel() for shape in shapes)
        if self._memory.numel() < needed:
            self._memory = self._new(0)
            self._memory = self._new(needed)
        return Workspace(shapes, self._dtype, self._memory)

    def _by_position(self, x: Tensor) -> Tensor:
        return x

    def _no_gradient(self, key: str) -> Tensor:
        return self._behind(key).zero_()

    def _gram(self, features: Tensor) -> Tensor:
        positions = features.shape[1] * features.shape[2]
        return gram.gram_matrix(features.permute(0, 3, 1, 2))[0].double() * positions

    def _product(self, features: Tensor, matrix: Tensor) -> Tensor:
        found = torch.empty_like(features, dtype=torch.float32)
        seen = features.permute(0, 3, 1, 2), found.permute(0, 3, 1, 2)
        gram.accumulate_style_gradient(seen[0], matrix[None], 1.0, False, seen[1], accumulate=False)
        return found

    def _add_seed(self, key: Key, place: Tensor) -> None:
        """In one pass where the owned positions are all there are, and nothing weighs them."""
        seed, weights = self._seeds[key], self._weights(key)
        if weights is not None or seed.mean is not None or not place.is_contiguous():
            super()._add_seed(key, place)
            return
        seen = (self._owned(key[0]).permute(0, 3, 1, 2), place.permute(0, 3, 1, 2))
        matrix, masked = seed.matrix.float()[None], key[0].startswith("relu")
        gram.accumulate_style_gradient(seen[0], matrix, 1.0, masked, seen[1])
