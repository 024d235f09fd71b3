"""One piece of a picture by a walk over the network: what its positions contribute, and get.

A plan (``engines/planned``) computes the features and takes gradients back. Here is what a piece
needs beside it: sums over the positions that it owns, and the losses' gradients at them, which are
known once the sums of all pieces are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from fastnst.engines.planned.walk import Walk
from fastnst.engines.strips.evaluator import Evaluator, Key, Sums, owned, owned_within
from fastnst.engines.strips.statistics import Moments, Seed, groups
from fastnst.ops import sums
from fastnst.strips.geometry import Tile


class PieceWalk(Walk, Evaluator):
    """The part of an evaluator that is the same for every plan.

    A class that is this and a plan calls ``_compare_nothing`` when it is made.

    Attributes:
        copied: Numbers of a piece's features that are copied at a time, at most.
    """

    copied: int
    _targets: Mapping[str, Tensor]
    _seeds: Mapping[Key, Seed]
    _factors: Mapping[str, float]
    _tile_seen: Tile | None

    def _compare_nothing(self) -> None:
        """Leave the comparison to the engine: the whole picture's differences come as seeds."""
        self._content_targets = {}
        self._plain_style = {}
        self._groups = groups(self.objective)
        self._targets, self._seeds, self._factors = {}, {}, {}
        self._tile_seen = None

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
            features = torch.empty_like(self._owned(key), dtype=self._wide)
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
            total = self._zeros()
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

    # ------------------------------------------------------------------- what a plan supplies --

    @abstractmethod
    def _by_position(self, x: Tensor) -> Tensor:
        """A layer's features or gradient seen as ``(1, h, w, C)``."""

    @abstractmethod
    def _gram(self, features: Tensor) -> Tensor:
        """Σ f fᵀ over the positions of ``(1, h, w, C)``: ``(C, C)`` float64."""

    @abstractmethod
    def _product(self, features: Tensor, matrix: Tensor) -> Tensor:
        """D f at each position of ``(1, h, w, C)``, in the losses' dtype; D ``(C, C)``."""

    @abstractmethod
    def _no_gradient(self, key: str) -> Tensor:
        """Zeros for the first gradient at the features ``key``, in the plan's layout."""

    # ---------------------------------------------------------------------------------- losses --

    def _moments(self, key: Key) -> Moments:
        group = self._groups[key]
        owned, weights = self._owned(key[0]), self._weights(key)
        channels = owned.shape[-1]
        second = self._zeros(channels, channels)
        first = self._zeros(channels) if group.needs_mean else None
        for rows in self._rows(key[0], weights is None and owned.is_contiguous()):
            features = owned[:, rows]
            weighted = features if weights is None else features * weights[:, rows]
            second += self._gram(weighted)
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
        step = height if whole else max(1, self.copied // (width * channels))
        for first in range(0, height, step):
            yield slice(first, min(first + step, height))

    def _add_losses(self, key: str, gradient: Tensor | None) -> Tensor | None:
        """Add the known gradients at the owned positions of the features ``key``."""
        keys = [k for k in self._seeds if k[0] == key]
        if not keys and key not in self._factors:
            return gradient
        if gradient is None:
            gradient = self._no_gradient(key)
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
        matrix = seed.matrix.to(self._wide)
        for rows in self._rows(key[0]):
            features, guidance = owned[:, rows], None if weights is None else weights[:, rows]
            weighted = (features if guidance is None else features * guidance).contiguous()
            found = self._product(weighted, matrix)
            if guidance is not None:
                found *= guidance
            if seed.mean is not None:
                mean = seed.mean.to(self._wide)
                found += mean if guidance is None else mean * guidance.square()
            self._mask(found, key[0], rows)
            place[:, rows].add_(found)

    def _mask(self, found: Tensor, key: str, rows: slice) -> None:
        """ReLU's mask of some owned rows on a gradient there, in place."""
        if key.startswith("relu"):
            found.masked_fill_(self._owned(key)[:, rows] <= 0, 0)

    def _place(self, x: Tensor, key: str) -> Tensor:
        """The owned positions of a layer's features or gradient, ``(1, rows, columns, C)``."""
        assert self._tile_seen is not None
        rows, columns = owned_within(self._tile_seen, key)
        return self._by_position(x)[:, rows, columns]

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
        """F − P at some owned rows, ``(1, rows, columns, C)``, in the dtype of P."""
        target = self._targets[key].permute(0, 2, 3, 1)[:, rows]
        return self._owned(key)[:, rows].to(target.dtype) - target

    def _zeros(self, *shape: int) -> Tensor:
        """Zeros in float64, where the features are."""
        return torch.zeros(shape, dtype=torch.float64, device=self.objective.normalize.mean.device)
