"""Pieces of a picture against the whole of it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from fastnst.engines import create
from fastnst.engines.planned.cpu import NativeEngine
from fastnst.engines.strips import autograd
from fastnst.engines.strips.autograd import AutogradEvaluator
from fastnst.engines.strips.engine import StripEngine
from fastnst.engines.strips.exchange import ExchangeEngine, ExchangingEvaluator
from fastnst.engines.strips.native import TILES, NativeEvaluator
from fastnst.engines.strips.targets import chosen
from fastnst.engines.torch_engine import TorchEngine
from fastnst.errors import InvalidInput
from fastnst.losses import LayerLoss, TemporalLoss
from fastnst.network.weights import Weights, load_weights
from fastnst.objective.objective import Objective
from fastnst.ops import extension
from fastnst.ranks.protocol import Alone
from fastnst.settings.settings import Settings
from fastnst.strips.geometry import Grid, Spacing, Tile
from helpers.strips import CONTROLS, errors, everything_owned, objective, spacing_of

EXACT = 1e-12  # float64: rounding of up to 13 layers, twice, and of sums in another order
# In the gradient of a Wasserstein loss an inverse root amplifies the rounding of the sums: a
# relative change of 1e-16 of the Gram matrix of relu3_1 changes its gradient by up to 1e-8.
INVERSE_ROOT = 1e-9
# Float32: the same convolutions; Gram matrices are added in float64 where the whole's are float32.
NATIVE = 2e-6
DEEP = {"content_layers": ("relu4_2",), "style_layers": ("relu1_1", "relu3_1", "relu5_1")}
native = pytest.mark.skipif(not extension.is_available(), reason="no compiled extension")


@pytest.mark.parametrize("control", CONTROLS)
def test_strips_equal_the_whole(random_weights: Weights, control: str) -> None:
    """Every control, with a height and width that are odd at every pooling."""
    it, image = objective(random_weights, 107, 31, control, torch.float64)
    grid = Grid.cut(107, 31, spacing_of(it), 32)
    assert len(grid) > 2
    got = StripEngine(AutogradEvaluator(it), grid).evaluate(image)
    loss, gradient = errors(got, TorchEngine(it).evaluate(image))
    assert loss <= EXACT
    assert gradient <= (INVERSE_ROOT if control == "wasserstein" else EXACT)


@pytest.mark.parametrize("pooling", ["average", "max", "l2"])
@pytest.mark.parametrize(("height", "rows"), [(64, 24), (101, 24), (99, 48), (130, 64), (75, 75)])
def test_any_height_of_strips_equals_the_whole(
    random_weights: Weights, height: int, rows: int, pooling: str
) -> None:
    it, image = objective(random_weights, height, 30, pooling, torch.float64)
    grid = Grid.cut(height, 30, spacing_of(it), rows)
    got = StripEngine(AutogradEvaluator(it), grid).evaluate(image)
    loss, gradient = errors(got, TorchEngine(it).evaluate(image))
    assert loss <= EXACT
    assert gradient <= EXACT


@pytest.mark.parametrize("control", ["gram", "replicate", "regions", "nine-point"])
def test_tiles_equal_the_whole(random_weights: Weights, control: str) -> None:
    it, image = objective(random_weights, 83, 91, control, torch.float64)
    grid = Grid.cut(83, 91, spacing_of(it), 32, 24)
    assert len(grid.columns) > 2
    got = StripEngine(AutogradEvaluator(it), grid).evaluate(image)
    loss, gradient = errors(got, TorchEngine(it).evaluate(image))
    assert loss <= EXACT
    assert gradient <= EXACT


def deep_errors(spacing: Spacing, rows: int, height: int = 335) -> tuple[float, float]:
    it, image = objective(load_weights(), height, 33, "gram", torch.float64, **DEEP)
    engine = StripEngine(AutogradEvaluator(it), Grid.cut(height, 33, spacing, rows))
    return errors(engine.evaluate(image), TorchEngine(it).evaluate(image))


def test_the_whole_network_in_strips() -> None:
    assert max(deep_errors(Spacing(16, 80), 160)) <= EXACT


def test_a_halo_that_is_too_small_shows() -> None:
    """A negative control: the receptive field of relu5_1 reaches 70 pixels."""
    loss, gradient = deep_errors(Spacing(16, 64), 128)
    assert loss > 1e-9
    assert gradient > 1e-5


def test_gradients_of_the_halo_show(random_weights: Weights, monkeypatch) -> None:
    """A negative control: positions that a piece does not own begin no gradient."""
    it, image = objective(random_weights, 107, 31, "style alone", torch.float64)
    engine = StripEngine(AutogradEvaluator(it), Grid.cut(107, 31, spacing_of(it), 32))
    expected = TorchEngine(it).evaluate(image)
    assert errors(engine.evaluate(image), expected)[1] <= EXACT
    monkeypatch.setattr(autograd, "owned_within", everything_owned)
    assert errors(engine.evaluate(image), expected)[1] > 0.1


# -------------------------------------------------------------------------------------- native --


@native
@pytest.mark.parametrize("control", CONTROLS)
def test_native_strips_equal_the_native_whole(random_weights: Weights, control: str) -> None:
    it, _ = objective(random_weights, 155, 37, control, torch.float32)
    grid = Grid.cut(155, 37, spacing_of(it, (TILES["fp32"],)), 48)
    assert len(grid) == 3
    check_native(random_weights, grid, control)


@native
@pytest.mark.parametrize("control", CONTROLS)
def test_bands_that_exchange_rows_equal_the_native_whole(
    random_weights: Weights, control: str
) -> None:
    """One process has all of them; tests/ranks has more."""
    it, _ = objective(random_weights, 155, 37, control, torch.float32)
    spacing = spacing_of(it, (TILES["fp32"],)).exchanging()
    grid = Grid.cut(155, 37, spacing, spacing.smallest)
    assert len(grid) >= 6
    check_native(random_weights, grid, control)


def check_native(weights: Weights, grid: Grid, control: str) -> None:
    """Strips and the whole are as near to each other as the whole is to float64, or nearer.

    Where G is near A, the rounding of G to float32 is a large part of both their errors.
    """
    it, image = objective(weights, grid.height, grid.width, control, torch.float32)
    whole = NativeEngine(it, tile=TILES["fp32"]).evaluate(image)
    exact, double = objective(weights, grid.height, grid.width, control, torch.float64)
    rounding = errors(whole, TorchEngine(exact).evaluate(double))
    if grid.exchanges:
        engine: StripEngine = ExchangeEngine(ExchangingEvaluator(it), grid)
    else:
        engine = StripEngine(NativeEvaluator(it), grid)
    found = errors(engine.evaluate(image), whole)
    for error, own in zip(found, rounding, strict=True):
        assert error <= max(NATIVE, 2 * own)


def in_strips(weights: Weights, control: str, *tiles: int) -> tuple[Objective, torch.Tensor, Grid]:
    """An objective, a picture of it, and how that is cut for Winograd's tiles of these sides."""
    it, image = objective(weights, 323, 37, control, torch.float32)
    grid = Grid.cut(323, 37, spacing_of(it, tiles), 96)
    assert len(grid) > 2
    return it, image, grid


@native
@pytest.mark.parametrize("control", ["gram", "regions", "max"])
def test_strips_with_bfloat16_on_the_way_back(random_weights: Weights, control: str) -> None:
    """The losses of float32 to the bit, and gradients as near to float32's as those of the whole.

    What two pieces give to a pixel is rounded in each, so they are no nearer to the whole's.
    """
    if not extension.convolves_bfloat16():
        pytest.skip("no bfloat16 products here")
    it, image, grid = in_strips(random_weights, control, *TILES.values())
    got = StripEngine(NativeEvaluator(it, back="bf16"), grid).evaluate(image)
    exact = StripEngine(NativeEvaluator(it), grid).evaluate(image)
    assert torch.equal(got.terms.total, exact.terms.total)
    whole = NativeEngine(it, tile=TILES["fp32"], back="bf16").evaluate(image)
    rounding = errors(whole, NativeEngine(it, tile=TILES["fp32"]).evaluate(image))[1]
    assert errors(got, whole)[0] <= NATIVE
    # up to three layers of 1 % error each
    assert 0 < errors(got, exact)[1] <= min(2 * rounding, 3e-2)


@native
@pytest.mark.parametrize("control", ["gram", "regions", "max"])
def test_strips_in_int16(random_weights: Weights, control: str) -> None:
    """Features, and so losses, are the whole's; gradients as near to float32's as those.

    What two pieces give to a pixel is rounded in each, so they are no nearer to the whole's.
    """
    if not extension.multiplies_integers():
        pytest.skip("no products of int16 here")
    it, image, grid = in_strips(random_weights, control, TILES["int16"])
    got = StripEngine(NativeEvaluator(it, "int16"), grid).evaluate(image)
    whole = NativeEngine(it, "int16").evaluate(image)
    exact = NativeEngine(it, tile=TILES["int16"]).evaluate(image)
    assert errors(got, whole)[0] <= NATIVE
    rounding = errors(whole, exact)[1]
    # in max pooling rounding also changes who is the largest of four nearly equal values
    assert 0 < errors(got, exact)[1] <= 2 * rounding <= (6e-2 if control == "max" else 3e-2)


@native
@pytest.mark.parametrize("control", ["gram", "regions", "max"])
def test_native_tiles_equal_the_native_whole(random_weights: Weights, control: str) -> None:
    it, _ = objective(random_weights, 99, 131, control, torch.float32)
    grid = Grid.cut(99, 131, spacing_of(it, (TILES["fp32"],)), 48, 48)
    assert len(grid) == 6
    check_native(random_weights, grid, control)


@native
@pytest.mark.parametrize("height", [397, 676])
def test_the_whole_network_in_native_strips(height: int) -> None:
    it, image = objective(load_weights(), height, 41, "gram", torch.float32, **DEEP)
    spacing = spacing_of(it, (TILES["fp32"],))
    assert (spacing.alignment, spacing.halo) == (96, 96)
    got = StripEngine(NativeEvaluator(it), Grid.cut(height, 41, spacing, 192)).evaluate(image)
    loss, gradient = errors(got, NativeEngine(it, tile=TILES["fp32"]).evaluate(image))
    assert loss <= NATIVE
    assert gradient <= NATIVE


@native
@pytest.mark.parametrize(
    ("precision", "back", "tile"),
    [("fp32", None, 6), ("fp32", "bf16", 4), ("int16", None, 4), ("bf16", None, 4)],
)
def test_the_tiles_of_exchanged_rows_on_the_way_back(
    random_weights: Weights,
    precision: str,
    back: str | None,
    tile: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where bands may begin is cut for the tiles of both ways: ``create.spacing``."""
    it, _ = objective(random_weights, 155, 37, "gram", torch.float32)
    evaluator = ExchangingEvaluator(it, precision, back=back)
    assert evaluator._tile_back == tile
    layers = it.network.architecture.up_to(it.layers)
    monkeypatch.setattr(extension, "multiplies_integers", lambda: False)
    choice = create.Choice(torch.device("cpu"), "native", "mixed" if back else precision)
    both = math.lcm(tile, TILES[precision])
    assert create.spacing(Settings(), layers, choice).alignment == 4 * both
    monkeypatch.setattr(extension, "multiplies_integers", lambda: True)
    if back:  # the mixed run ends in int16
        assert create.spacing(Settings(), layers, choice).alignment == 4 * TILES["int16"]


@native
@pytest.mark.parametrize(
    ("precision", "back"), [("fp32", "bf16"), ("int16", None)], ids=["bf16 back", "int16"]
)
def test_the_whole_network_with_exchanged_rows_and_fewer_bits(
    precision: str, back: str | None
) -> None:
    here = extension.convolves_bfloat16() if back else extension.multiplies_integers()
    if not here:
        pytest.skip(f"no products of {back or precision} here")
    it, image = objective(load_weights(), 397, 41, "gram", torch.float32, **DEEP)
    tiles = TILES[precision], TILES[back or precision]
    spacing = spacing_of(it, tiles).exchanging()
    grid = Grid.cut(397, 41, spacing, spacing.smallest)
    assert len(grid) >= 2
    found = ExchangeEngine(ExchangingEvaluator(it, precision, back=back), grid).evaluate(image)
    whole = NativeEngine(it, precision, tile=TILES[precision], back=back).evaluate(image)
    exact = NativeEngine(it, tile=TILES["fp32"]).evaluate(image)
    assert errors(found, whole)[0] <= NATIVE
    # sums in another order round some number otherwise, and with it all that comes of it
    rounding = errors(whole, exact)[1]
    assert 1e-4 < rounding < 5e-2
    assert 1e-4 < errors(found, exact)[1] <= 1.5 * rounding


@native
def test_the_order_of_threads_is_of_no_account(random_weights: Weights) -> None:
    it, image = objective(random_weights, 155, 37, "several statistics", torch.float32)
    grid = Grid.cut(155, 37, spacing_of(it, (TILES["fp32"],)), 48)
    engine = StripEngine(NativeEvaluator(it), grid)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            evaluation = engine.evaluate(image)
            found.append((evaluation.terms.total, evaluation.gradient.clone()))
    finally:
        torch.set_num_threads(before)
    for a, b in itertools.pairwise(found):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])


@native
def test_the_memory_of_strips_is_allocated_once(random_weights: Weights) -> None:
    it, image = objective(random_weights, 155, 37, "gram", torch.float32)
    evaluator = NativeEvaluator(it)
    engine = StripEngine(evaluator, Grid.cut(155, 37, spacing_of(it, (6,)), 48))
    engine.evaluate(image)
    memory = evaluator._memory
    engine.evaluate(image)
    assert evaluator._memory is memory


@pytest.mark.parametrize("kind", [AutogradEvaluator, pytest.param(NativeEvaluator, marks=native)])
def test_features_that_are_kept_change_no_bit(random_weights: Weights, kind: Any) -> None:
    """But each piece is computed forward once."""
    it, image = objective(random_weights, 155, 131, "several statistics", torch.float32)
    grid = Grid.cut(155, 131, spacing_of(it, (6,)), 48, 96)
    assert len(grid) == 6
    calls = []

    class Counted(kind):  # type: ignore[misc]
        def forward(self, pixels: torch.Tensor, tile: Tile) -> None:
            calls.append(tile.index)
            super().forward(pixels, tile)

    given = chosen(image, True, None)
    found = []
    for keep in (False, True):
        engine = StripEngine(Counted(it), grid, given, keep=keep)
        engine.evaluate(image / 2)
        calls.clear()
        one = engine.evaluate(image)
        found.append((one.terms.total, one.gradient.clone(), sorted(calls)))
    first, second = found
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert first[2] == sorted([*range(6), *range(5)])
    assert second[2] == list(range(6))


# ------------------------------------------------------------------------------------- refusals --


def test_a_norm_of_whole_gradients_is_refused(random_weights: Weights) -> None:
    it, _ = objective(random_weights, 107, 31, "gram", torch.float32, gradient_norm="l2")
    with pytest.raises(InvalidInput, match="strips: gradient_norm l2 divides by") as caught:
        StripEngine(AutogradEvaluator(it), Grid.cut(107, 31, spacing_of(it), 32))
    assert "\n" not in str(caught.value)


def test_a_picture_of_another_size_is_refused(random_weights: Weights) -> None:
    it, image = objective(random_weights, 107, 31, "gram", torch.float32)
    engine = StripEngine(AutogradEvaluator(it), Grid.cut(107, 31, spacing_of(it), 32))
    with pytest.raises(InvalidInput, match="31×100 pixels, its strips are for 31×107"):
        engine.evaluate(image[..., :100, :])


def test_a_loss_that_is_no_sum_is_refused_by_name(random_weights: Weights) -> None:
    class Peak(LayerLoss):
        """The largest feature: no sum over positions."""

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features.amax()

    class Squares(LayerLoss):
        """Of the channels' mean squares; it knows of no guidance."""

        sums_over_positions = True

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features.square().mean((2, 3)).square().mean()

        def of_moments(self, mean: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
            return gram.diagonal().square().mean()

    it, image = objective(random_weights, 107, 31, "gram", torch.float32)
    it.style["relu2_1"] = Squares()
    strips = StripEngine(AutogradEvaluator(it), Grid.cut(107, 31, spacing_of(it), 32))
    total = float(strips.evaluate(image).terms.total)
    assert total == pytest.approx(float(it(image).total), rel=1e-5)  # rounding in float32
    it.style["relu2_1"] = Peak()
    with pytest.raises(InvalidInput, match="strips: the loss Peak on relu2_1 is no function of"):
        StripEngine(AutogradEvaluator(it), Grid.cut(107, 31, spacing_of(it), 32))


def test_a_frame_of_a_film_is_for_one_process(random_weights: Weights) -> None:
    """A temporal term sees the whole picture; a rank has its own rows."""
    it, image = objective(random_weights, 107, 31, "gram", torch.float32)
    it.temporal = TemporalLoss(image, torch.ones(1, 1, 107, 31))
    grid, one_of_two = Grid.cut(107, 31, spacing_of(it), 32), Alone()
    StripEngine(AutogradEvaluator(it), grid, communication=one_of_two)
    one_of_two.ranks = 2
    with pytest.raises(InvalidInput, match="a frame of a film cannot be computed by several ranks"):
        StripEngine(AutogradEvaluator(it), grid, communication=one_of_two)
