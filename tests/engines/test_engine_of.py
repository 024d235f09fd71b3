"""An objective with a loss of one's own on every engine, against float64."""

from __future__ import annotations

import pytest
import torch

import fastnst
from fastnst.errors import BackendUnavailable, InvalidInput

SETTINGS = fastnst.Settings(
    size=33, style_layers=("relu1_1", "relu3_1"), content_layers=("relu2_1",), style_weight=3.0
)


class Energy(fastnst.LayerLoss):
    """How far each channel's mean square is from a target's."""

    def __init__(self, target: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("target", target)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (features.square().mean((2, 3)) - self.target).square().mean()


def objective_in(dtype: torch.dtype) -> tuple[fastnst.Objective, torch.Tensor]:
    content, style, start = fastnst.load_pictures("sample:harbour", "sample:swirl", SETTINGS, 33)
    objective = fastnst.build_objective(
        fastnst.load_weights(), content.to(dtype), style.to(dtype), SETTINGS, "torch"
    )
    with torch.no_grad():
        features = objective.network(objective.normalize(style.to(dtype)), ["relu3_1"])["relu3_1"]
    objective.style["relu3_1"] = Energy(features.square().mean((2, 3)))
    return objective, start.to(dtype)


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_a_loss_of_one_s_own(engine) -> None:
    exact, image = objective_in(torch.float64)
    image.requires_grad_()
    total = exact(image).total
    (gradient,) = torch.autograd.grad(total, image)
    expected = total.item()

    objective, start = objective_in(torch.float32)
    settings = fastnst.Settings(**{**SETTINGS.to_dict(), "engine": engine})
    try:
        made = fastnst.engine_of(objective, (start.shape[2], start.shape[3]), settings)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    assert made.name == engine
    found = made.evaluate(start)
    # float32 through at most six convolutions and a square of squares
    assert abs(float(found.terms.total) - expected) < 2e-4 * expected
    scale = gradient.abs().max()
    assert float((found.gradient.double() - gradient).abs().max() / scale) < 1e-3


def test_any_other_module_is_refused() -> None:
    objective, start = objective_in(torch.float32)
    objective.style["relu3_1"] = torch.nn.Identity()
    with pytest.raises(InvalidInput, match="relu3_1 is a Identity: expected a fastnst.LayerLoss"):
        fastnst.engine_of(objective, (start.shape[2], start.shape[3]), SETTINGS)


def test_whether_a_loss_needs_the_host_is_asked_of_the_losses_at_hand() -> None:
    objective, _ = objective_in(torch.float32)
    assert not objective.needs_host
    loss = Energy(torch.zeros(256))
    loss.needs_host = True
    objective.style["relu3_1"] = loss
    assert objective.needs_host
