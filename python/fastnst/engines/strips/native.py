"""One piece of a picture by the plan on a CPU: compiled convolutions and Gram matrices.

A piece's features are those of the whole picture only if all its Winograd tiles lie where the whole
picture's do: with one size of tiles in all layers (``TILES``), and pieces that begin at multiples
of it at the deepest level. Features that differ by rounding alone make some ReLUs open that were
closed, and the gradient then differs by about 1e-3.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from fastnst.cache import Cache
from fastnst.engines.planned.cpu import NativeEngine
from fastnst.engines.planned.workspace import Workspace
from fastnst.engines.strips.evaluator import Evaluator, Key, Sums, owned, owned_within
from fastnst.engines.strips.statistics import Moments, Seed, groups
from fastnst.objective.objective import Objective
from fastnst.ops import gram, sums
from fastnst.ops.buffers import CPU
from fastnst.strips.geometry import Tile

TILES = {"fp32": 6, "bf16": 4}  # by precision: bfloat16 has tiles of 4 only
COPIED = 1 << 21  # numbers of a piece's features that are copied at a time, at most


class NativeEvaluator(NativeEngine, Evaluator):
    """Computes pieces with the walk of ``NativeEngine`` in one stretch of memory.

    Args:
        objective: Float32, on the CPU, of the whole picture.
        precision: ``fp32`` or ``bf16``.
        name: What the engine is called in results.
        cache: Transformed filters of the same network, to be used again.
        back: The precision of the products on the way back, as for ``NativeEngine``.
    """

    def __init__(
        self,
        objective: Objective,
        precision: str = "fp32",
        name: str = "native",
        cache: Cache | None = None,
        back: str | None = None,
    ) -> None:
        super().__init__(objective, precision, name, cache, TILES[precision], back)
        self._memory = self._new(0)
        self._targets: Mapping[str, Tensor] = {}
        # The walk compares nothing on its own: the whole picture's differences come by set_seeds.
        self._content_targets = {}
        self._plain_style = {}
        self._groups = groups(objective)
        self._seeds: Mapping[Key, Seed] = {}
        self._factors: Mapping[str, float] = {}
        self._tile_seen: Tile | None = None

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

    def forward(self, pixels: Tensor, tile: Tile) -> None:
        """Compute the features of a piece ``(1, 3, h, w)``."""
        pixels = pixels.contiguous()
        self._tile_seen = tile
        self._allocate_for(pixels)
        self._forward(pixels)

    def content(self) -> Mapping[str, Tensor]:
        """The features of the content's layers at the owned positions."""
        found = {}
        for key in self.objective.content:
            features = torch.empty_like(self._owned(key), dtype=torch.float32)
            found[key] = features.copy_(self._owned(key)).permute(0, 3, 1, 2)
        return found

    def compare_with(self, targets: Mapping[str, Tensor]) -> None:
        """Give the content targets P at the owned positions."""
        self._targets = targets

    def sums(self) -> Sums:
        """The sums over the positions that the piece owns."""
        moments = {key: self._moments(key) for key in self._groups}
        content = {}
        for key in self._targets:
            total = torch.zeros((), dtype=torch.float64, device=CPU)
            for rows in self._rows(key):
                total += sums.squared_norm(self._difference(key, rows))
            content[key] = total
        return Sums(moments, content)

    def set_seeds(self, style: Mapping[Key, Seed], content: Mapping[str, float]) -> None:
        """Say what the losses' gradients at the features are."""
        self._seeds, self._factors = style, content

    def gradient(self) -> Tensor:
        """The gradient that the owned positions give to all pixels of the piece."""
        self._backward()
        return self._gradient

    def _moments(self, key: Key) -> Moments:
        group = self._groups[key]
        owned, weights = self._owned(key[0]), self._weights(key)
        channels = owned.shape[-1]
        second = torch.zeros(channels, channels, dtype=torch.float64, device=CPU)
        first = second.new_zeros(channels) if group.needs_mean else None
        for rows in self._rows(key[0], weights is None and owned.is_contiguous()):
            features = owned[:, rows]
            weighted = features if weights is None else features * weights[:, rows]
            positions = features.shape[1] * features.shape[2]
            found = gram.gram_matrix(weighted.permute(0, 3, 1, 2))[0].double()
            second += found * positions
            if first is not None:
                counted = weighted if weights is None else weighted * weights[:, rows]
                first += counted.reshape(-1, channels).sum(0, dtype=torch.float64)
        return Moments(first, second)

    def _rows(self, key: str, whole: bool = False) -> Iterator[slice]:
        """The owned rows of a layer, so many at a time that a copy of them is small.

        Args:
            key: The layer.
            whole: Whether no copy is made of them: then they are taken together.
        """
        _, height, width, channels = self._owned(key).shape
        if not height * width:
            return
        step = height if whole else max(1, COPIED // (width * channels))
        for first in range(0, height, step):
            yield slice(first, min(first + step, height))

    def _add_losses(self, key: str, gradient: Tensor | None) -> Tensor | None:
        """Add the known gradients at the owned positions of the features ``key``."""
        keys = [k for k in self._seeds if k[0] == key]
        if not keys and key not in self._factors:
            return gradient
        if gradient is None:
            gradient = self._behind(key).zero_()
        place = self._place(gradient, key)
        if not place.numel():
            return gradient
        for one in keys:
            self._add_seed(one, place)
        if key in self._factors:
            for rows in self._rows(key):
                found = self._difference(key, rows)
                self._mask(found, key, rows)
                place[:, rows].add_(found, alpha=self._factors[key])
        return gradient

    def _add_seed(self, key: Key, place: Tensor) -> None:
        """Add T² (D f + m), with ReLU's mask, at the owned positions."""
        seed, owned, weights = self._seeds[key], self._owned(key[0]), self._weights(key)
        masked = key[0].startswith("relu")
        matrix = seed.matrix.float()[None]
        if weights is None and seed.mean is None and place.is_contiguous():
            seen = (owned.permute(0, 3, 1, 2), place.permute(0, 3, 1, 2))
            gram.accumulate_style_gradient(seen[0], matrix, 1.0, masked, seen[1])
            return
        for rows in self._rows(key[0]):
            features, guidance = owned[:, rows], None if weights is None else weights[:, rows]
            weighted = (features if guidance is None else features * guidance).contiguous()
            found = torch.empty_like(weighted, dtype=torch.float32)
            gram.accumulate_style_gradient(
                *(weighted.permute(0, 3, 1, 2), matrix, 1.0, False, found.permute(0, 3, 1, 2)),
                accumulate=False,
            )
            if guidance is not None:
                found *= guidance
            if seed.mean is not None:
                mean = seed.mean.float()
                found += mean if guidance is None else mean * guidance.square()
            self._mask(found, key[0], rows)
            place[:, rows].add_(found)

    def _mask(self, found: Tensor, key: str, rows: slice) -> None:
        """ReLU's mask of some owned rows on a gradient there, in place."""
        if key.startswith("relu"):
            found.masked_fill_(self._owned(key)[:, rows] <= 0, 0)

    def _place(self, x: Tensor, key: str) -> Tensor:
        """The owned positions of ``(1, h, w, C)``."""
        assert self._tile_seen is not None
        rows, columns = owned_within(self._tile_seen, key)
        return x[:, rows, columns]

    def _owned(self, key: str) -> Tensor:
        return self._place(self.features[key], key)

    def _weights(self, key: Key) -> Tensor | None:
        """T of the owned positions, ``(1, rows, columns, 1)``; None: 1."""
        guidance = self._groups[key].guidance
        if guidance is None:
            return None
        assert self._tile_seen is not None
        rows, columns = owned(self._tile_seen, key[0])
        return guidance[rows, columns][None, ..., None]

    def _difference(self, key: str, rows: slice) -> Tensor:
        """F − P at some owned rows, ``(1, rows, columns, C)`` float32."""
        target = self._targets[key].permute(0, 2, 3, 1)[:, rows]
        return self._owned(key)[:, rows].to(target.dtype) - target
