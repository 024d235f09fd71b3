"""One loss and gradient, engine against engine."""

from __future__ import annotations

import pytest
import torch

import fastnst
from benchmarks import engines, setups
from fastnst import Weights
from fastnst.engines.planned.cuda import PlannedEngine


def test_a_recorded_evaluation_is_that_of_its_engine(random_weights: Weights) -> None:
    """On the CPU, where it is run and not recorded."""
    grey = torch.full((1, 3, 16, 16), 0.5)
    settings = fastnst.Settings(content_layers=("relu1_1",), style_layers=("relu2_1",))
    objective = fastnst.build_objective(random_weights, grey, grey.sqrt(), settings, "torch")
    recorded = engines.Recorded(PlannedEngine(objective), grey + 0.1)
    loss, gradient = recorded()
    assert loss == pytest.approx(float(objective(grey + 0.1).total), rel=1e-5)  # float32
    expected = PlannedEngine(objective).evaluate(grey + 0.1).gradient
    assert torch.equal(gradient, expected)


def test_mixed_precision_is_evaluated_as_it_ends(
    random_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engine ``torch`` ends in float32, and its first evaluation is far from it."""
    monkeypatch.setattr(setups, "weights", lambda *_: random_weights)
    image = torch.rand(1, 3, 24, 16, generator=torch.Generator().manual_seed(0))
    settings = fastnst.Settings(content_layers=("relu2_1",), style_layers=("relu1_1",))
    problem = engines.Problem(image.sqrt(), [image.square()], image, settings)

    def found(precision: str) -> tuple[float, torch.Tensor]:
        (arm,) = engines._arms(setups.Way("torch", precision), problem, "cpu").values()
        return arm()

    loss, gradient = found("mixed")
    expected, coarse = found("fp32"), found("bf16")
    assert loss == expected[0] != coarse[0]
    assert torch.equal(gradient, expected[1])
