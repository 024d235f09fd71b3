"""The engine that evaluates an objective piece by piece, exactly.

Losses are sums over positions, so two passes suffice. The first computes every piece forward and
adds what its owned positions contribute to Gram matrices, means and content losses. With these of
the whole picture known, so is the gradient at each position. The second pass computes every piece
forward again, unless its features were kept, and takes these gradients back to its pixels, halo
included, where those of neighbouring pieces are added up. Total variation is added by rows at the
end.

Several processes may share the pieces, each with rows of its own (``ranks/``). Sums of Gram
matrices are then added in fixed point and all others by band, in the bands' order; and a row's
gradient is the sum of what two bands at most have found. So a result depends on the grid alone,
whoever computes the pieces, and one process is a case like any other.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fastnst.devices import guard, ordinary, undisturbed
from fastnst.engines.planned.terms import add_temporal
from fastnst.engines.strips.evaluator import Evaluator, Key, Sums
from fastnst.engines.strips.statistics import Group, Moments, compare, groups
from fastnst.engines.strips.targets import ContentTargets, GivenTargets, MakeTargets, computed
from fastnst.errors import InvalidInput
from fastnst.evaluation import Engine, Evaluation
from fastnst.objective.objective import Objective
from fastnst.ranks.protocol import Alone, Communication
from fastnst.ranks.share import Rows, Share
from fastnst.strips.geometry import Grid, Span, Tile
from fastnst.strips.storage import Store, empty
from fastnst.strips.sums import GramSum, WideSum


class StripEngine(Engine):
    """Evaluates an objective over the pieces of a grid.

    The memory of ``Evaluation.gradient`` is reused by the next evaluation.

    Args:
        evaluator: What computes a piece.
        grid: How the picture is cut.
        targets: Makes the content targets; None: those that the objective holds.
        store: Where the gradient lies; None: in memory.
        communication: How this process speaks to others that own the other bands; None: it owns
            all of them. With others, pictures and gradients are this rank's rows.
        keep: Whether the features of all pieces are kept until they are needed again, which takes
            the memory of all of them and changes no bit. It is for targets that are kept too.

    Raises:
        InvalidInput: for an objective that no sums over positions can give, as evaluators raise it;
            for more ranks than there are bands.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        grid: Grid,
        targets: MakeTargets | None = None,
        store: Store | None = None,
        communication: Communication | None = None,
        keep: bool = False,
    ) -> None:
        self.grid = grid
        self.name = evaluator.name
        self.precision, self.tf32 = evaluator.precision, evaluator.tf32
        self._communication = communication or Alone()
        self._share = Share.of(grid, self._communication)
        tiles = self._share.pieces()
        self._last = tiles[-1]
        self._keeps = keep
        # By the number of a piece: each its own, or all the same.
        self._evaluators = {
            tile.index: evaluator.another() if keep and tile != self._last else evaluator
            for tile in tiles
        }
        self.objective = objective = evaluator.objective
        if objective.temporal is not None and self._communication.ranks > 1:
            raise InvalidInput("a frame of a film cannot be computed by several ranks")
        self._groups = groups(objective)
        network, size = objective.network.architecture, (grid.height, grid.width)
        sizes = {key: network.size_at(key, size) for key in objective.layers}
        self._positions = {key: height * width for key, (height, width) in sizes.items()}
        self._channels = {key: network.channels_of(key) for key in objective.layers}
        self._elements = {
            key: self._positions[key] * self._channels[key] for key in objective.content
        }
        self._device = objective.normalize.mean.device  # of the pieces, and of what is made of sums
        self._gradient = torch.empty(0, device="cpu")
        self._store = store
        self._targets: ContentTargets = (
            GivenTargets.of_objective(objective)
            if targets is None
            else targets(evaluator, self._share)
        )

    def evaluate(self, image: Tensor) -> Evaluation:
        """The objective and its gradient at ``image`` ``(1, 3, H, W)``, or this rank's rows of it.

        Raises:
            InvalidInput: if the picture is not of the grid's size.
        """
        if tuple(image.shape[-2:]) != (self._share.height, self.grid.width):
            raise InvalidInput(
                f"the picture has {image.shape[-1]}×{image.shape[-2]} pixels, "
                f"its strips are for {self.grid.width}×{self._share.height}"
            )
        with undisturbed(), guard(image.device), torch.no_grad():
            image = ordinary(image.detach())
            has = self._gradient
            if (has.shape, has.dtype, has.device) != (image.shape, image.dtype, image.device):
                self._gradient = empty(image.shape, image, self._store)
            rows = self._share.extend(image)
            style, content, tv = self._compare(rows)
            self._find_gradient(rows)
            temporal = add_temporal(self.objective, image, self._gradient)
            narrow = {key: value.to(image) for key, value in style.items()}
            terms = self.objective.terms(
                {key: value.to(image) for key, value in content.items()},
                {key: narrow[key] for key in self.objective.style},
                tv.to(image),
                temporal,
            )
        return Evaluation(terms, self._gradient, self.precision)

    def _compare(self, rows: Rows) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """The style and content losses by layer and tv(x), float64; the evaluator has its seeds."""
        moments, content, tv = self._sum(rows)
        style, seeds = compare(self.objective, self._groups, moments, self._positions)
        factors = {
            key: 2 * self.objective.content_factor(key) / count
            for key, count in self._elements.items()
        }
        for evaluator in set(self._evaluators.values()):
            evaluator.set_seeds(seeds, factors)
        return style, {key: content[key] / count for key, count in self._elements.items()}, tv

    def _sum(self, rows: Rows) -> tuple[dict[Key, Moments], dict[str, Tensor], Tensor]:
        """The first pass: the sums of all pieces, of all ranks."""
        moments = {
            key: _MomentsSum(group, self._channels[key[0]], self._positions[key[0]])
            for key, group in self._groups.items()
        }
        layers = list(self._elements)
        parts = torch.zeros(len(self.grid.rows), len(layers) + 1, dtype=torch.float64, device="cpu")
        for band, part in self._parts(rows):
            for key, value in part.moments.items():
                moments[key].add(value)
            for column, layer in enumerate(layers):
                parts[band.index, column] += part.content[layer].to("cpu")
        for band in self._share.bands:
            parts[band.index, -1] = total_variation(self.objective, rows, band)[0]
        tables = [table for total in moments.values() for table in total.tables]
        total = self._communication.add_up(tables, parts)
        return (
            {key: value.value(self._device) for key, value in moments.items()},
            {layer: total[column] for column, layer in enumerate(layers)},
            total[-1],
        )

    def _parts(self, rows: Rows) -> Iterator[tuple[Span, Sums]]:
        """The sums of this rank's pieces, each with its band."""
        for band in self._share.bands:
            for tile in self._share.tiles(band):
                self._forward(rows, tile)
                yield band, self._evaluators[tile.index].sums()
                self._targets.release(tile)

    def _find_gradient(self, rows: Rows) -> None:
        """The second pass, from the last piece to the first: the last one's features are there."""
        gradient = self._share.zeros(self._gradient)
        for band in reversed(self._share.bands):
            _, tv = total_variation(self.objective, rows, band, gradient=True)
            after: Tensor | None = None  # what the tile to the right gives to columns of this one
            for tile in reversed(list(self._share.tiles(band))):
                if tile != self._last and not self._keeps:
                    self._forward(rows, tile)
                part = self._evaluators[tile.index].gradient()
                if after is not None:
                    part[..., part.shape[-1] - after.shape[-1] :].add_(after)
                index, columns = tile.columns.index, tile.columns
                left = self.grid.columns[index - 1].high - columns.low if index else 0
                after = part[..., :left].clone() if index else None
                # Nothing is added any more to the others: a pixel lies in two tiles at most.
                done = slice(columns.low + left, columns.low + part.shape[-1])
                part = part[..., left:]
                if tv is not None:
                    first = band.start - band.low
                    place = part[..., first : first + tv.shape[-2], :]
                    place.add_(tv[..., done], alpha=self.objective.tv_weight)
                gradient.add(band.low, part, done)
                self._targets.release(tile)
            if self._store is not None:
                own = slice(band.start - self._share.start, band.stop - self._share.start)
                self._store.release(self._gradient[..., own, :])
        self._share.give_back(gradient)

    def _forward(self, rows: Rows, tile: Tile) -> None:
        """Compute the features of a piece, and say what they are compared with."""
        targets = self._targets.of(tile)
        evaluator = self._evaluators[tile.index]
        evaluator.forward(computed(rows, tile), tile)
        evaluator.compare_with(targets)


class _MomentsSum:
    """The sums over positions for the losses of a layer that share a map of guidance.

    Args:
        group: These losses.
        channels: Of the layer.
        positions: Of the whole picture's layer, about what the sums are: features are near 1.
    """

    def __init__(self, group: Group, channels: int, positions: int) -> None:
        self._first = WideSum((channels,), positions) if group.needs_mean else None
        self._second = GramSum(channels, positions)

    def add(self, part: Moments) -> None:
        """Add those of a piece."""
        if self._first is not None and part.first is not None:
            self._first.add(part.first)
        self._second.add(part.second)

    @property
    def tables(self) -> tuple[Tensor, ...]:
        """What is to be added up over all ranks."""
        first = () if self._first is None else self._first.tables
        return (*first, *self._second.tables)

    def value(self, device: torch.device) -> Moments:
        """Those of the whole picture."""
        first = None if self._first is None else self._first.value().to(device)
        return Moments(first, self._second.value().to(device))


def total_variation(
    objective: Objective, rows: Rows, band: Span, gradient: bool = False
) -> tuple[Tensor, Tensor | None]:
    """What a band contributes to the total variation of a picture.

    Args:
        objective: Its total variation is read.
        rows: Of the picture, those of the band and the one that follows them at least.
        band: The band.
        gradient: Whether to find the gradient too.

    Returns:
        Its part of tv(x), 0-dimensional; zero where the objective has no total variation. And
        ∂tv/∂x for the band's rows and the one that follows them; None where it is not asked for.
    """
    last = min(band.stop + 1, band.length)
    if not objective.tv_weight:
        return torch.zeros((), dtype=torch.float64, device="cpu"), None
    with torch.set_grad_enabled(gradient):
        x = rows.read(band.start, last).detach().clone().requires_grad_(gradient)
        own, following = x[..., : band.owned_length, :], x[..., band.owned_length :, :]
        part: Tensor = objective.tv.of_rows(own, following, band.is_first, band.length)
        found = torch.autograd.grad(part, x)[0] if gradient else None
    return part.detach(), found
