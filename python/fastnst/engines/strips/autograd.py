"""One piece of a picture by PyTorch's autograd: in any dtype, on any device."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from fastnst.devices import rounds_to_tf32
from fastnst.engines.strips.evaluator import Evaluator, Key, Sums, owned, owned_within
from fastnst.engines.strips.statistics import Moments, Seed, groups
from fastnst.objective.objective import Objective
from fastnst.ops.reference import products
from fastnst.strips.geometry import Tile


class AutogradEvaluator(Evaluator):
    """Computes pieces with the network's own modules.

    Args:
        objective: On the device and in the dtype of the pictures to come.
        precision: ``fp32``: the objective's own dtype; or ``bf16``: the network runs in bfloat16,
            the losses in float32.
        name: What the engine is called in results.
    """

    def __init__(self, objective: Objective, precision: str = "fp32", name: str = "torch") -> None:
        self.objective = objective
        self.precision = precision
        self.name = name
        of = objective.normalize.mean
        self.tf32 = rounds_to_tf32(of.device, torch.bfloat16 if precision == "bf16" else of.dtype)
        self._network = objective.network
        self._wide = of.dtype
        if precision == "bf16":
            self._network = copy.deepcopy(objective.network).to(torch.bfloat16)
        self._groups = groups(objective)
        self._targets: Mapping[str, Tensor] = {}
        self._style: Mapping[Key, Seed] = {}
        self._content: Mapping[str, float] = {}
        self._pixels = objective.normalize.mean
        self._features: dict[str, Tensor] = {}
        self._tile: Tile | None = None

    def another(self) -> AutogradEvaluator:
        """One with features of its own."""
        found = copy.copy(self)
        found._features = {}
        return found

    def forward(self, pixels: Tensor, tile: Tile) -> None:
        """Compute the features of a piece ``(1, 3, h, w)``."""
        self._features = {}  # those of the piece before are freed first
        with torch.enable_grad():
            self._pixels = pixels.detach().clone().requires_grad_()
            normalised = self.objective.normalize(self._pixels)
            self._features = self._network(normalised, self.objective.layers)
        self._tile = tile

    def content(self) -> Mapping[str, Tensor]:
        """The features of the content's layers at the owned positions."""
        return {key: self._owned(key)[None].clone() for key in self.objective.content}

    def compare_with(self, targets: Mapping[str, Tensor]) -> None:
        """Give the content targets P at the owned positions."""
        self._targets = targets

    def sums(self) -> Sums:
        """The sums over the positions that the piece owns."""
        moments = {}
        for key, group in self._groups.items():
            features = self._owned(key[0])
            weighted = features
            if group.guidance is not None:
                weighted = features * self._guidance(key, group.guidance)
            flat = weighted.flatten(1)
            first = None
            if group.needs_mean:
                if group.guidance is not None:
                    weighted = weighted * self._guidance(key, group.guidance)
                first = weighted.double().sum((1, 2))
            moments[key] = Moments(first, products(flat).double())
        content = {key: self._difference(key).double().square().sum() for key in self._targets}
        return Sums(moments, content)

    def set_seeds(self, style: Mapping[Key, Seed], content: Mapping[str, float]) -> None:
        """Say what the losses' gradients at the features are."""
        self._style, self._content = style, content

    def gradient(self) -> Tensor:
        """The gradient that the owned positions give to all pixels of the piece."""
        seeds = {key: torch.zeros_like(features) for key, features in self._features.items()}
        for key, seed in self._style.items():
            features = self._owned(key[0])
            found = (seed.matrix.to(features.dtype) @ features.flatten(1)).view_as(features)
            if seed.mean is not None:
                found += seed.mean.to(features.dtype).view(-1, 1, 1)
            guidance = self._groups[key].guidance
            if guidance is not None:
                found *= self._guidance(key, guidance).square()
            self._place(seeds[key[0]], key[0]).add_(found)
        for layer, factor in self._content.items():
            self._place(seeds[layer], layer).add_(self._difference(layer), alpha=factor)
        keys = list(self._features)
        (gradient,) = torch.autograd.grad(
            [self._features[key] for key in keys], self._pixels, [seeds[key] for key in keys]
        )
        self._features = {}
        return gradient

    def _place(self, x: Tensor, layer: str) -> Tensor:
        """The owned positions of ``(1, C, h, w)``, ``(C, rows, columns)``."""
        assert self._tile is not None
        rows, columns = owned_within(self._tile, layer)
        return x[0, :, rows, columns]

    def _owned(self, layer: str) -> Tensor:
        """The features of a layer at the owned positions, in the losses' dtype."""
        return self._place(self._features[layer].detach(), layer).to(self._wide)

    def _difference(self, layer: str) -> Tensor:
        """F − P at the owned positions."""
        return self._owned(layer) - self._targets[layer][0]

    def _guidance(self, key: Key, guidance: Tensor) -> Tensor:
        assert self._tile is not None
        rows, columns = owned(self._tile, key[0])
        return guidance[rows, columns]
