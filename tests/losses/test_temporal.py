"""The temporal term: its value and gradient in float64, alone and in every engine that holds it."""

from __future__ import annotations

import pytest
import torch

from fastnst.engines.create import create_engine, engine_of, unavailable_reason
from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.evaluation import Evaluation
from fastnst.losses import TemporalLoss
from fastnst.network.weights import Weights
from fastnst.objective.build import build_objective
from fastnst.ops import extension
from fastnst.settings.settings import Settings
from fastnst.solvers.device.loop import minimise_on_device
from fastnst.solvers.minimise import minimise
from fastnst.strips.geometry import Grid
from helpers.engines import pictures
from helpers.strips import spacing_of

WEIGHT = 30.0
LAYERS = {"content_layers": ("relu2_2",), "style_layers": ("relu1_1", "relu3_1")}
ENGINES = [
    "torch",
    pytest.param(
        "native",
        marks=pytest.mark.skipif(not extension.is_available(), reason="no compiled extension"),
    ),
]


def mask(height: int, width: int) -> torch.Tensor:
    """Reliable, not reliable, and in between."""
    generator = torch.Generator().manual_seed(4)
    return torch.rand(1, 1, height, width, generator=generator).mul_(3).sub_(1).clamp_(0, 1)


def oracle(image: torch.Tensor, target: torch.Tensor, c: torch.Tensor) -> tuple[float, list]:
    """t and ∂t/∂x in float64, pixel by pixel as the formula has them."""
    x, w, c = image[0].double(), target[0].double(), c[0, 0].double()
    count = 3 * float(c.sum())
    value, gradient = 0.0, torch.zeros_like(x)
    for k in range(3):
        for i in range(x.shape[1]):
            for j in range(x.shape[2]):
                difference = float(x[k, i, j] - w[k, i, j])
                value += float(c[i, j]) * difference**2 / count
                gradient[k, i, j] = 2 * float(c[i, j]) * difference / count
    return value, gradient


def test_value_and_gradient_are_those_of_the_formula() -> None:
    image, target, _ = pictures(7, 5)
    c = mask(5, 7)
    loss = TemporalLoss(target.double(), c.double())
    x = image.double().requires_grad_()
    value = loss(x)
    (gradient,) = torch.autograd.grad(value, x)
    expected, slope = oracle(image, target, c)
    for t, of_t in ((value.detach(), gradient), loss.differentiate(image.double())):
        assert float(t) == pytest.approx(expected, rel=1e-13)  # float64 sums in another order
        torch.testing.assert_close(of_t[0], slope, rtol=1e-12, atol=1e-15)


def test_what_is_not_reliable_does_not_count() -> None:
    target = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    c = torch.zeros(1, 1, 4, 6)
    c[..., :3] = 1
    image = target.clone()
    image[..., 3:] += 5
    assert float(TemporalLoss(target, c)(image)) == 0
    image[..., :3] += 0.5
    assert float(TemporalLoss(target, c)(image)) == pytest.approx(0.25)
    assert float(TemporalLoss(target, torch.zeros_like(c))(image)) == 0


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected one number for each pixel"):
        TemporalLoss(torch.zeros(1, 3, 4, 6), torch.zeros(1, 1, 6, 4))


def evaluate(
    weights: Weights, engine: str, grid: Grid | None = None, with_term: bool = True
) -> Evaluation:
    image, content, style = pictures(83, 91)
    temporal = (WEIGHT, TemporalLoss(content.flip(-1), mask(91, 83))) if with_term else None
    settings = Settings(engine=engine, tv_weight=2.0, **LAYERS)
    made = create_engine(weights, content, style, settings, grid=grid, temporal=temporal)
    return made.evaluate(image)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("in_strips", [False, True])
def test_engines_add_the_term(random_weights: Weights, engine: str, in_strips: bool) -> None:
    grid = None
    if in_strips:
        _, content, style = pictures(83, 91)
        objective = build_objective(random_weights, content, style, Settings(**LAYERS))
        grid = Grid.cut(91, 83, spacing_of(objective), 48)
        assert len(grid) > 1
    got = evaluate(random_weights, engine, grid)
    without = evaluate(random_weights, engine, grid, with_term=False)
    image, content, _ = pictures(83, 91)
    value, gradient = oracle(image, content.flip(-1), mask(91, 83))
    assert without.terms.temporal is None
    assert got.terms.temporal is not None
    # float32 rounding: of the term's sum, and of adding it to the rest
    assert float(got.terms.temporal) == pytest.approx(value, rel=1e-5)
    expected = float(without.terms.total) + WEIGHT * value
    assert float(got.terms.total) == pytest.approx(expected, rel=1e-5)
    difference = got.gradient.double() - without.gradient.double() - WEIGHT * gradient
    assert float(difference.abs().max()) <= 1e-6 * float(without.gradient.abs().max())


def test_solvers_see_the_term(random_weights: Weights) -> None:
    """On the host and on the device: each iterate has it, and it falls where it is all there is."""
    image, content, style = pictures(32, 24)
    settings = Settings(engine="torch", **LAYERS)
    temporal = 1e6, TemporalLoss(style.clamp(0, 1), mask(24, 32))
    engine = create_engine(random_weights, content, style, settings, temporal=temporal)
    for iterates in (
        minimise(engine.evaluate, image, iterations=5),
        minimise_on_device(
            engine.launch, image, iterations=5, history_size=5, optimizer="lbfgs", record=False
        ),
    ):
        found = [float(iterate.terms.temporal) for iterate in iterates]
        assert len(found) == 6
        assert found[-1] < 0.01 * found[0]


def test_a_graph_refuses_it_by_name(random_weights: Weights) -> None:
    reason = unavailable_reason("onnx", torch.device("cpu"))
    if reason is not None:
        pytest.skip(reason)
    _, content, style = pictures(32, 24)
    settings = Settings(engine="onnx", **LAYERS)
    temporal = 1.0, TemporalLoss(content, mask(24, 32))
    objective = build_objective(random_weights, content, style, settings, temporal=temporal)
    with pytest.raises(BackendUnavailable, match="temporal term"):
        engine_of(objective, (24, 32), settings)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_reliability_that_is_no_number_is_refused(value: float) -> None:
    reliability = torch.ones(1, 1, 4, 4)
    reliability[0, 0, 1, 1] = value
    with pytest.raises(InvalidInput, match="not finite"):
        TemporalLoss(torch.zeros(1, 3, 4, 4), reliability)


def test_a_warped_frame_may_be_anything_where_it_means_nothing() -> None:
    target, c = torch.rand(1, 3, 4, 6), torch.ones(1, 1, 4, 6)
    target[..., 0, :], c[..., 0, :] = float("nan"), 0
    image = torch.rand(1, 3, 4, 6).requires_grad_()
    TemporalLoss(target, c)(image).backward()
    assert bool(image.grad.isfinite().all())
    with pytest.raises(InvalidInput, match="negative"):
        TemporalLoss(torch.zeros(1, 3, 4, 6), -c)
