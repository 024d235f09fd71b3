"""Pieces by the plan of a GPU, computed here on the CPU, against the whole picture."""

from __future__ import annotations

import pytest
import torch

from fastnst.engines.strips import walk
from fastnst.engines.strips.engine import StripEngine
from fastnst.engines.strips.planned import PlannedEvaluator
from fastnst.engines.torch_engine import TorchEngine
from fastnst.network.weights import Weights
from fastnst.strips.geometry import Grid
from helpers.strips import CONTROLS, errors, everything_owned, objective, spacing_of

EXACT = 1e-12  # as for autograd's pieces
INVERSE_ROOT = 1e-9


@pytest.mark.parametrize("control", CONTROLS)
def test_pieces_equal_the_whole(random_weights: Weights, control: str) -> None:
    it, image = objective(random_weights, 107, 31, control, torch.float64)
    grid = Grid.cut(107, 31, spacing_of(it), 32)
    loss, gradient = errors(
        StripEngine(PlannedEvaluator(it), grid).evaluate(image), TorchEngine(it).evaluate(image)
    )
    assert loss <= EXACT
    assert gradient <= (INVERSE_ROOT if control == "wasserstein" else EXACT)


@pytest.mark.parametrize("control", ["max", "regions", "nine-point"])
def test_tiles_equal_the_whole(
    random_weights: Weights, control: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a row of features at a time too."""
    it, image = objective(random_weights, 83, 91, control, torch.float64)
    grid = Grid.cut(83, 91, spacing_of(it), 32, 24)
    engine = StripEngine(PlannedEvaluator(it), grid)
    expected = TorchEngine(it).evaluate(image)
    found = engine.evaluate(image)
    assert max(errors(found, expected)) <= EXACT
    monkeypatch.setattr(PlannedEvaluator, "copied", 1)
    assert max(errors(engine.evaluate(image), expected)) <= EXACT


def test_gradients_of_the_halo_show(
    random_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A negative control: positions that a piece does not own begin no gradient."""
    it, image = objective(random_weights, 107, 31, "style alone", torch.float64)
    engine = StripEngine(PlannedEvaluator(it), Grid.cut(107, 31, spacing_of(it), 32))
    expected = TorchEngine(it).evaluate(image)
    assert errors(engine.evaluate(image), expected)[1] <= EXACT
    monkeypatch.setattr(walk, "owned_within", everything_owned)
    assert errors(engine.evaluate(image), expected)[1] > 0.1


@pytest.mark.parametrize("control", ["gram", "max"])
def test_kept_features_change_no_bit(random_weights: Weights, control: str) -> None:
    it, image = objective(random_weights, 107, 31, control, torch.float32)
    grid = Grid.cut(107, 31, spacing_of(it), 32)
    gone, kept = (StripEngine(PlannedEvaluator(it), grid, keep=keep) for keep in (False, True))
    expected = gone.evaluate(image).gradient.clone()
    assert torch.equal(kept.evaluate(image).gradient, expected)
    assert torch.equal(gone.evaluate(image).gradient, expected)


def test_bfloat16_is_near_float64(random_weights: Weights) -> None:
    """As near as a picture in one piece is by the same plan: some layers of 1 % error each."""
    it, image = objective(random_weights, 107, 31, "gram", torch.float32)
    exact, double = objective(random_weights, 107, 31, "gram", torch.float64)
    grid = Grid.cut(107, 31, spacing_of(it), 32)
    found = StripEngine(PlannedEvaluator(it, "bf16"), grid).evaluate(image)
    expected = TorchEngine(exact).evaluate(double)
    assert found.precision == "bf16"
    assert float(found.terms.total) == pytest.approx(float(expected.terms.total), rel=2e-2)
    x, y = found.gradient.double().flatten(), expected.gradient.flatten()
    assert float(torch.nn.functional.cosine_similarity(x, y, dim=0)) >= 0.99
