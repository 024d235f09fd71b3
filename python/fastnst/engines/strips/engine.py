"""The engine that evaluates an objective piece by piece, exactly.

Losses are sums over positions, so two passes suffice. The first computes every piece forward and
adds what its owned positions contribute to Gram matrices, means and content losses. With these of
the whole picture known, so is the gradient at each position. The second pass computes every piece
forward again and takes these gradients back to its pixels, halo included, where those of
neighbouring pieces are added up. Total variation is added by rows at the end.

All sums are float64 and taken in the order of the pieces, so that a result depends on the grid
alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastnst.devices import guard, ordinary, undisturbed
from fastnst.engines.planned.terms import add_temporal
from fastnst.engines.strips.evaluator import Evaluator, Key, Sums, cut
from fastnst.engines.strips.statistics import Moments, compare, groups
from fastnst.engines.strips.targets import ContentTargets, GivenTargets, MakeTargets
from fastnst.errors import InvalidInput
from fastnst.evaluation import Engine, Evaluation
from fastnst.objective.objective import Objective
from fastnst.strips.geometry import Grid, Span, Tile
from fastnst.strips.storage import Store, empty


class StripEngine(Engine):
    """Evaluates an objective over the pieces of a grid.

    The memory of ``Evaluation.gradient`` is reused by the next evaluation.

    Args:
        evaluator: What computes a piece.
        grid: How the picture is cut.
        targets: Makes the content targets; None: those that the objective holds.
        store: Where the gradient lies; None: in memory.

    Raises:
        InvalidInput: for an objective that no sums over positions can give; so do evaluators.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        grid: Grid,
        targets: MakeTargets | None = None,
        store: Store | None = None,
    ) -> None:
        self.grid = grid
        self.name = evaluator.name
        self.precision = evaluator.precision
        self._evaluator = evaluator
        self.objective = objective = evaluator.objective
        self._groups = groups(objective)
        size_at = objective.network.architecture.size_at
        sizes = {key: size_at(key, (grid.height, grid.width)) for key in objective.layers}
        self._positions = {key: height * width for key, (height, width) in sizes.items()}
        channels = objective.network.architecture.convolutions()
        self._elements = {
            key: self._positions[key] * channels[_convolution_of(key, tuple(channels))][1]
            for key in objective.content
        }
        self._gradient = torch.empty(0, device=objective.normalize.mean.device)
        self._store = store
        self._targets: ContentTargets = (
            GivenTargets(objective) if targets is None else targets(evaluator, grid)
        )

    def evaluate(self, image: Tensor) -> Evaluation:
        """The objective and its gradient at ``image`` ``(1, 3, H, W)``.

        Raises:
            InvalidInput: if the picture is not of the grid's size.
        """
        if tuple(image.shape[-2:]) != (self.grid.height, self.grid.width):
            raise InvalidInput(
                f"the picture has {image.shape[-1]}×{image.shape[-2]} pixels, "
                f"its strips are for {self.grid.width}×{self.grid.height}"
            )
        with undisturbed(), guard(image.device), torch.no_grad():
            image = ordinary(image.detach())
            if self._gradient.shape != image.shape or self._gradient.dtype != image.dtype:
                self._gradient = empty(image.shape, image, self._store)
            style, content = self._compare(image)
            self._add_gradients(image)
            tv = add_total_variation(self.objective, image, self._gradient, self.grid.rows)
            temporal = add_temporal(self.objective, image, self._gradient)
            narrow = {key: value.to(image.dtype) for key, value in style.items()}
            terms = self.objective.terms(
                {key: value.to(image.dtype) for key, value in content.items()},
                {key: narrow[key] for key in self.objective.style},
                tv.to(image.dtype),
                temporal,
            )
        return Evaluation(terms, self._gradient, self.precision)

    def _compare(self, image: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The style and content losses by layer, float64; the evaluator knows its seeds then."""
        total = self._sum(image)
        style, seeds = compare(self.objective, self._groups, total.moments, self._positions)
        factors = {
            key: 2 * self.objective.content_factor(key) / count
            for key, count in self._elements.items()
        }
        self._evaluator.set_seeds(seeds, factors)
        content = {key: total.content[key] / count for key, count in self._elements.items()}
        return style, content

    def _sum(self, image: Tensor) -> Sums:
        """The first pass: the sums of all pieces, added in their order."""
        moments: dict[Key, Moments] = {}
        content: dict[str, Tensor] = {}
        for tile in self.grid:
            self._forward(image, tile)
            part = self._evaluator.sums()
            self._targets.release(tile)
            for key, value in part.moments.items():
                moments[key] = moments[key] + value if key in moments else value
            for layer, distance in part.content.items():
                content[layer] = content[layer] + distance if layer in content else distance
        return Sums(moments, content)

    def _add_gradients(self, image: Tensor) -> None:
        """The second pass, from the last piece to the first: the last one's features are there."""
        self._gradient.zero_()
        tiles = list(self.grid)
        for tile in reversed(tiles):
            if tile is not tiles[-1]:
                self._forward(image, tile)
            place = cut(self._gradient, tile)
            place.add_(self._evaluator.gradient())
            self._targets.release(tile)
            if self._store is not None:
                self._store.release(place)

    def _forward(self, image: Tensor, tile: Tile) -> None:
        """Compute the features of a piece, and say what they are compared with."""
        targets = self._targets.of(tile)
        self._evaluator.forward(cut(image, tile), tile)
        self._evaluator.compare_with(targets)


def add_total_variation(
    objective: Objective, image: Tensor, gradient: Tensor, bands: tuple[Span, ...]
) -> Tensor:
    """Add τ · ∂tv/∂x at ``image`` ``(1, 3, H, W)`` to the gradient there, some rows at a time.

    Args:
        objective: Its total variation and the weight of that are read.
        image: The whole picture.
        gradient: Like the picture; added to.
        bands: Rows that are computed together.

    Returns:
        tv(x), 0-dimensional float64; zero where the objective has no total variation.
    """
    total = torch.zeros((), dtype=torch.float64, device=image.device)
    if not objective.tv_weight:
        return total
    for band in bands:
        last = min(band.stop + 1, band.length)
        with torch.enable_grad():
            x = image[..., band.start : last, :].detach().clone().requires_grad_()
            rows, following = x[..., : band.owned_length, :], x[..., band.owned_length :, :]
            part = objective.tv.of_rows(rows, following, band.is_first, band.length)
            (found,) = torch.autograd.grad(part, x)
        gradient[..., band.start : last, :].add_(found, alpha=objective.tv_weight)
        total += part.detach()
    return total


def _convolution_of(layer: str, convolutions: tuple[str, ...]) -> str:
    """The convolution whose channels a layer has: for a pooling the last one of its block."""
    if layer.startswith("pool"):
        block = layer.removeprefix("pool")
        return [name for name in convolutions if name.startswith(f"conv{block}_")][-1]
    return layer.replace("relu", "conv")
