"""Pieces of a picture: they partition it at every level, and see all that they need."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fastnst.network.architecture import VGG16, VGG19
from fastnst.strips.geometry import Grid, Spacing, Span, level_of, parts, reach, spans

LAYERS = VGG19.up_to(["relu5_1"])
PAPER = Spacing.of(LAYERS)
# The paper's network with Winograd tiles of 6, of both sizes, and without; shallow networks.
SPACINGS = [
    (LAYERS, (6,)),
    (LAYERS, (6, 4)),
    (LAYERS, (1,)),
    (VGG19.up_to(["relu3_1"]), (6,)),
    (VGG19.up_to(["pool4"]), (1,)),
    (VGG19.up_to(["relu1_1"]), (1,)),
    (VGG16.up_to(["conv5_3"]), (1,)),
]


def needed(layers: Sequence[str], first: int, last: int) -> tuple[int, int]:
    """Pixels that the positions ``first`` to ``last`` of the last layer see, step by step back."""
    for layer in reversed(layers):
        if layer.startswith("conv"):
            first, last = first - 1, last + 1
        elif layer.startswith("pool"):
            first, last = 2 * first, 2 * last + 1
    return first, last


def test_reach_of_the_papers_network() -> None:
    assert reach(LAYERS) == 70
    assert Spacing(96, 96) == PAPER
    assert Spacing.of(LAYERS, (6, 4)) == Spacing(192, 192)
    assert Spacing.of(LAYERS, (1,)) == Spacing(16, 80)
    assert Spacing.of((), (1,), further=1) == Spacing(1, 1)


@pytest.mark.parametrize("architecture", [VGG16, VGG19])
def test_reach_is_that_of_the_receptive_field(architecture: object) -> None:
    for name in architecture.layers():  # type: ignore[attr-defined]
        layers = architecture.up_to([name])  # type: ignore[attr-defined]
        first, last = needed(layers, 0, 0)
        own = 1 << level_of(name)
        assert (-first, last - (own - 1)) == (reach(layers), reach(layers)), name


def test_levels_are_the_networks_scales() -> None:
    for name in VGG19.layers():
        assert VGG19.size_at(name, (397, 211)) == (397 >> level_of(name), 211 >> level_of(name))


@pytest.mark.parametrize(("layers", "tiles"), SPACINGS)
def test_spans_partition_every_level_and_see_what_they_need(
    layers: Sequence[str], tiles: Sequence[int]
) -> None:
    # Rows and columns are cut by the same function, so every n is every height and every width.
    spacing = Spacing.of(layers, tiles)
    deepest = level_of(layers[-1])
    for n in range(16, 401):
        for size in {n, *range(spacing.smallest, n, max(spacing.alignment, 32))}:
            if size < n and size % spacing.alignment:
                continue
            cut = spans(n, size, spacing)
            assert [s.index for s in cut] == list(range(len(cut)))
            for level in range(deepest + 1):
                owned = [s.owned(level) for s in cut]
                assert owned[0].start == 0
                assert owned[-1].stop == n >> level
                assert all(a.stop == b.start for a, b in itertools.pairwise(owned))
                assert sum(s.count(level) for s in cut) == n >> level
            for s in cut:
                assert s.low % spacing.alignment == 0
                assert 0 <= s.low <= s.start < s.stop <= s.high <= n
                for level in range(deepest + 1):
                    inside, whole, computed = (
                        s.owned_within(level),
                        s.owned(level),
                        s.computed(level),
                    )
                    assert inside.start + computed.start == whole.start
                    assert inside.stop + computed.start == whole.stop
                    # the piece's own poolings leave at least the owned positions
                    assert inside.stop <= (s.high - s.low) >> level
                for k, layer in enumerate(layers):
                    whole = s.owned(level_of(layer))
                    if whole.start == whole.stop:
                        continue
                    first, last = needed(layers[: k + 1], whole.start, whole.stop - 1)
                    assert s.low <= max(first, 0)
                    assert min(last, n - 1) < s.high
            covered = [sum(s.low <= x < s.high for s in cut) for x in range(0, n, 7)]
            assert max(covered) <= 2
            assert spacing.largest(size, n) == max(s.computed_length for s in cut)


def test_a_short_rest_joins_the_last_band() -> None:
    assert [s.owned_length for s in spans(400, 192, PAPER)] == [192, 208]
    assert [s.owned_length for s in spans(480, 192, PAPER)] == [192, 192, 96]
    assert [s.owned_length for s in spans(192, 192, PAPER)] == [192]


def test_sizes_that_are_off_the_grid_are_refused() -> None:
    for size in (96, 200, 250):
        with pytest.raises(ValueError, match="multiple of 96"):
            spans(500, size, PAPER)
    with pytest.raises(ValueError, match="cannot be cut"):
        spans(0, 192, PAPER)
    with pytest.raises(ValueError, match="not a multiple"):
        Spacing(96, 80)


def test_a_picture_that_is_not_cut_is_one_piece() -> None:
    grid = Grid.cut(301, 203, PAPER)
    assert grid.is_whole
    (tile,) = grid
    assert tile.rows == Span(0, 0, 301, 0, 301, 301)
    assert (tile.rows.is_first, tile.rows.is_last) == (True, True)
    assert tile.computed_pixels == grid.computed_pixels == 301 * 203
    assert grid.largest == (301, 203)


def test_tiles_partition_the_picture() -> None:
    grid = Grid.cut(701, 397, Spacing(16, 16), rows=96, columns=48)
    assert [tile.index for tile in grid] == list(range(len(grid)))
    for level in range(5):
        hits = torch.zeros(701 >> level, 397 >> level, dtype=torch.int64)
        for tile in grid:
            hits[tile.rows.owned(level), tile.columns.owned(level)] += 1
            assert (
                tile.count(level) == hits[tile.rows.owned(level), tile.columns.owned(level)].numel()
            )
        assert bool((hits == 1).all())
    assert grid.computed_pixels == sum(tile.computed_pixels for tile in grid)


def cuts(count: int, parts: int) -> Iterator[list[tuple[int, int]]]:
    """All ways to cut so many bands in a row into parts."""
    for inner in itertools.combinations(range(1, count), parts - 1):
        yield list(itertools.pairwise([0, *inner, count]))


@pytest.mark.parametrize("exchanges", [False, True])
@pytest.mark.parametrize("height", [400, 1011, 1248, 1500])
def test_shares_are_every_band_once_and_the_largest_is_small(height: int, exchanges: bool) -> None:
    spacing = PAPER.exchanging() if exchanges else PAPER
    grid = Grid.cut(height, 100, spacing, rows=spacing.smallest)
    rows = [band.owned_length if exchanges else band.computed_length for band in grid.rows]
    for parties in range(1, len(rows) + 1):
        shares = [grid.share(k, parties) for k in range(parties)]
        assert [b for share in shares for b in share] == list(range(len(rows)))
        assert all(shares)
        largest = max(sum(rows[b] for b in share) for share in shares)
        ways = cuts(len(rows), parties)
        assert largest == min(max(sum(rows[a:b]) for a, b in way) for way in ways)


def test_a_long_last_band_is_not_shared_with_as_many_others() -> None:
    grid = Grid.cut(1024, 1024, PAPER.exchanging(), rows=96)
    assert grid.rows[-1].owned_length == 160
    heights = [sum(grid.rows[b].owned_length for b in grid.share(k, 3)) for k in range(3)]
    assert max(heights) == 384  # bands counted alone would give 288, 288 and 448


def test_parts_make_up_a_range() -> None:
    cut = spans(700, 192, PAPER)
    for low, high in [(0, 700), (96, 480), (191, 193), (200, 210), (699, 700)]:
        rows = torch.full((high - low,), -1)
        for part in parts(cut, low, high):
            rows[part.of_range] = torch.arange(part.within.start, part.within.stop) + (
                cut[part.index].start
            )
        assert rows.tolist() == list(range(low, high))


WATCHED = ("relu1_1", "relu2_1", "pool2", "relu4_2", "relu5_1")


class _Network:
    """VGG's shape to ``relu5_1`` with few channels, in float64, and an objective on its layers."""

    def __init__(self, pooling: str, watched: Sequence[str] = WATCHED) -> None:
        self.watched = watched
        generator = torch.Generator().manual_seed(3)
        self.weights: dict[str, Tensor] = {}
        channels = 3
        for layer in LAYERS:
            if layer.startswith("conv"):
                shape = (4, channels, 3, 3)
                scale = (2 / (9 * channels)) ** 0.5
                self.weights[layer] = scale * torch.randn(
                    shape, generator=generator, dtype=torch.float64
                )
                channels = 4
        self.pool = functional.avg_pool2d if pooling == "average" else functional.max_pool2d

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        found = {}
        for layer in LAYERS:
            if layer.startswith("conv"):
                x = functional.conv2d(x, self.weights[layer], padding=1)
            elif layer.startswith("relu"):
                x = functional.relu(x)
            else:
                x = self.pool(x, 2)
            if layer in self.watched:
                found[layer] = x
        return found

    def whole(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """A style loss and its gradient, of the whole picture."""
        x = image.clone().requires_grad_()
        loss = torch.stack([gram(f).square().sum() for f in self(x).values()]).sum()
        return loss.detach(), torch.autograd.grad(loss, x)[0]

    def by_tile(self, image: Tensor, grid: Grid, masked: bool = True) -> tuple[Tensor, Tensor]:
        """The same in two passes over tiles: Gram matrices, then gradients with their halos."""
        grams: dict[str, Tensor] = {}
        for tile in grid:
            for name, f in self(image[..., tile.rows.computed(), tile.columns.computed()]).items():
                level = level_of(name)
                own = f[..., tile.rows.owned_within(level), tile.columns.owned_within(level)]
                grams[name] = grams.get(name, 0) + gram(own)
        gradient = torch.zeros_like(image)
        for tile in grid:
            piece = image[..., tile.rows.computed(), tile.columns.computed()].clone()
            piece.requires_grad_()
            found = self(piece)
            seeds = []
            for name, f in found.items():
                level = level_of(name)
                own = (..., tile.rows.owned_within(level), tile.columns.owned_within(level))
                seed = torch.zeros_like(f) if masked else full_seed(grams[name], f)
                seed[own] = full_seed(grams[name], f)[own]
                seeds.append(seed)
            (part,) = torch.autograd.grad(list(found.values()), piece, seeds)
            gradient[..., tile.rows.computed(), tile.columns.computed()] += part
        return torch.stack([g.square().sum() for g in grams.values()]).sum(), gradient


def gram(features: Tensor) -> Tensor:
    flat = features[0].flatten(1)
    return flat @ flat.T


def full_seed(total: Tensor, features: Tensor) -> Tensor:
    """d |G|² / d F = 4 G F."""
    return (4 * total.detach() @ features.detach()[0].flatten(1)).view_as(features)


def _error(got: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor]) -> tuple[float, float]:
    loss = float((got[0] - want[0]).abs() / want[0].abs())
    return loss, float((got[1] - want[1]).norm() / want[1].norm())


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize(
    ("height", "width", "rows", "columns", "tiles"),
    [
        (413, 51, 192, 0, (6,)),
        (509, 37, 160, 0, (1,)),
        (345, 361, 160, 160, (1,)),
        (640, 16, 384, 0, (6, 4)),
    ],
)
def test_pieces_give_the_whole_pictures_loss_and_gradient(
    pooling: str, height: int, width: int, rows: int, columns: int, tiles: tuple[int, ...]
) -> None:
    network = _Network(pooling)
    generator = torch.Generator().manual_seed(height)
    image = torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)
    grid = Grid.cut(height, width, Spacing.of(LAYERS, tiles), rows, columns)
    assert not grid.is_whole
    loss, gradient = _error(network.by_tile(image, grid), network.whole(image))
    # float64 rounding, 1e-16, times the few hundred terms that are added in another order
    assert loss < 1e-13
    assert gradient < 1e-12


def test_a_halo_that_is_too_small_and_seeds_that_are_not_masked_show() -> None:
    network = _Network("average", ["relu5_1"])  # the layer that sees furthest
    image = torch.rand(
        1, 3, 413, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    want = network.whole(image)
    short = Grid.cut(413, 40, Spacing(16, 64), rows=160)
    assert _error(network.by_tile(image, short), want)[1] > 1e-5  # 1e-15 if it is right
    right = Grid.cut(413, 40, Spacing(16, 80), rows=160)
    assert _error(network.by_tile(image, right), want)[1] < 1e-12
    assert _error(network.by_tile(image, right, masked=False), want)[1] > 0.01
