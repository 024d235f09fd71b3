"""An objective with a loss of one's own on every engine, against float64."""

from __future__ import annotations

import pytest
import torch

import fastnst
from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.strips.geometry import Grid, Spacing

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


class LeftHalf(fastnst.ContentLoss):
    """The content of the left half alone: another function than its base class."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        half = features.shape[-1] // 2
        return (features - self.target)[..., :half].square().mean()


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_what_is_derived_from_the_content_loss_is_itself(engine: str) -> None:
    exact, image = objective_in(torch.float64)
    exact.content["relu2_1"] = LeftHalf(exact.content["relu2_1"].target)
    terms = exact(image)
    objective, start = objective_in(torch.float32)
    objective.content["relu2_1"] = LeftHalf(objective.content["relu2_1"].target)
    settings = fastnst.Settings(**{**SETTINGS.to_dict(), "engine": engine})
    size = start.shape[2], start.shape[3]
    try:
        made = fastnst.engine_of(objective, size, settings)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    # float32 through at most six convolutions and a square of squares
    found = made.evaluate(start).terms
    assert float(found.total) == pytest.approx(terms.total.item(), rel=2e-4)
    # the total is that of the style: the content of both halves is less than 2e-4 of it away
    assert float(found.content["relu2_1"]) == pytest.approx(
        terms.content["relu2_1"].item(), rel=2e-4
    )
    grid = Grid.cut(*size, Spacing(1, 0), 16)
    with pytest.raises(InvalidInput, match="the loss LeftHalf on relu2_1 is no content loss"):
        fastnst.engine_of(objective, size, settings, grid=grid)


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_a_picture_of_another_size_than_the_content_is_refused(engine: str) -> None:
    """Though a target of one position would go with any features."""
    objective, _ = objective_in(torch.float32)
    objective.content["relu2_1"] = fastnst.ContentLoss(torch.rand(1, 128, 1, 1))
    settings = fastnst.Settings(**{**SETTINGS.to_dict(), "engine": engine})
    try:
        made = fastnst.engine_of(objective, (2, 3), settings)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    for height, width in ((24, 20), (32, 33)):
        with pytest.raises(InvalidInput, match="target"):
            made.evaluate(torch.rand(1, 3, height, width))
