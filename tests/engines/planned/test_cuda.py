"""The plan in PyTorch's operators on the CPU, against the float64 oracle and autograd."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fastnst.cache import Cache
from fastnst.engines.planned import cuda
from fastnst.engines.planned.cuda import PlannedEngine, unavailable_reason
from fastnst.engines.torch_engine import TorchEngine
from fastnst.evaluation import Evaluation
from fastnst.network.weights import Weights, load_weights
from fastnst.objective.build import build_objective
from fastnst.objective.regions import Region
from fastnst.ops import buffers, extension
from fastnst.settings.settings import Settings
from helpers import oracle
from helpers.engines import SETTINGS, compare, pictures

CONTROLS = [
    {"padding": "replicate"},
    {"pooling": "l2", "padding": "replicate", "tv_weight": 3.0, "tv_form": "nine-point"},
    {"statistics": ("covariance", "mean-std"), "statistics_weights": (1.0, 0.5)},
    {"statistics": ("wasserstein",)},
    {"gradient_norm": "l1"},
    {"gradient_norm": "l2", "pooling": "max"},
    {"style_blend": (1.0, 3.0), "blending": "losses"},
]


def both(
    weights: Weights,
    settings: Settings,
    width: int,
    height: int,
    *,
    dtype: torch.dtype = torch.float64,
    regions: list[Region] | None = None,
    precision: str = "fp32",
) -> tuple[PlannedEngine, TorchEngine, Tensor]:
    content, first, second, image = (x.to(dtype) for x in pictures(width, height, 4))
    styles = [first, second] if settings.style_blend or regions else [first]

    def built() -> object:
        return build_objective(weights, content, styles, settings, "torch", regions)

    planned = PlannedEngine(built(), precision)
    return planned, TorchEngine(built()), image


def agree(got: Evaluation, expected: Evaluation, bound: float = 1e-11) -> None:
    """Float64 against float64, by other formulas: rounding alone."""
    a, b = got.terms, expected.terms
    assert (list(a.content), list(a.style)) == (list(b.content), list(b.style))
    for x, y in (
        *((a.content[k], b.content[k]) for k in b.content),
        *((a.style[k], b.style[k]) for k in b.style),
        (a.tv, b.tv),
        (a.total, b.total),
    ):
        assert float(x) == pytest.approx(float(y), rel=1e-11)
    scale = float(expected.gradient.abs().max())
    torch.testing.assert_close(got.gradient, expected.gradient, rtol=0, atol=bound * scale)


@pytest.mark.parametrize("pooling", ["average", "max", "l2"])
@pytest.mark.parametrize(("width", "height"), [(48, 32), (37, 51)])
@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_autograd_in_float64(
    random_weights: Weights, settings: Settings, width: int, height: int, pooling: str
) -> None:
    planned, autograd, image = both(
        random_weights, replace(settings, pooling=pooling), width, height
    )
    agree(planned.evaluate(image), autograd.evaluate(image))


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[5]])
def test_every_control_equals_autograd(
    random_weights: Weights, settings: Settings, control: dict
) -> None:
    planned, autograd, image = both(random_weights, replace(settings, **control), 37, 50)
    # The gradient of a matrix root divides by sums of its eigenvalues: rounding of those of a
    # covariance, 1e-16 of the largest, is magnified where two are small. On some processors' LAPACK
    # 4e-11 was seen.
    bound = 1e-9 if "wasserstein" in control.get("statistics", ()) else 1e-11
    agree(planned.evaluate(image), autograd.evaluate(image), bound)


def test_regions_equal_autograd(random_weights: Weights) -> None:
    where = torch.zeros(33, 40, dtype=torch.float64)
    where[:, :17] = 1
    regions = [Region({0: None}, where), Region({1: None}, 1 - where)]
    planned, autograd, image = both(random_weights, SETTINGS[0], 40, 33, regions=regions)
    agree(planned.evaluate(image), autograd.evaluate(image))


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("kernels", [True, False])
def test_float32_with_the_kernels_and_without(
    random_weights: Weights, settings: Settings, kernels: bool, monkeypatch
) -> None:
    if kernels and not extension.is_available():
        pytest.skip("no compiled extension")
    if not kernels:
        monkeypatch.setattr(buffers, "unavailable_reason", lambda features: "not asked for")
    planned, autograd, image = both(random_weights, settings, 41, 34, dtype=torch.float32)
    compare(planned.evaluate(image), autograd.evaluate(image))


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("pooling", ["average", "max", "l2"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_bfloat16_is_near_float32(
    random_weights: Weights, settings: Settings, pooling: str, kernels: bool, monkeypatch
) -> None:
    if not kernels:
        monkeypatch.setattr(buffers, "unavailable_reason", lambda features: "not asked for")
    settings = replace(settings, pooling=pooling)
    rounded, exact, image = both(
        random_weights, settings, 37, 50, dtype=torch.float32, precision="bf16"
    )
    got, expected = rounded.evaluate(image), exact.evaluate(image)
    assert got.gradient.dtype == torch.float32
    # as for engine native on a CPU: up to five layers of 1 % error each, averaged by the sums
    assert float(got.terms.total) == pytest.approx(float(expected.terms.total), rel=2e-2)
    x, y = got.gradient.flatten(), expected.gradient.flatten()
    # in max pooling rounding also changes who is the largest of four nearly equal values
    cosine = float(torch.nn.functional.cosine_similarity(x, y, dim=0))
    assert cosine >= (0.98 if pooling == "max" else 0.99)


def test_the_whole_network_equals_the_oracle() -> None:
    """VGG-19 to pool5, in float64, against the formulas of the paper."""
    settings = Settings(
        content_layers=("relu4_2",),
        style_layers=("relu1_1", "conv2_2", "relu3_1", "relu4_1", "pool5"),
        tv_weight=0.5,
    )
    weights = load_weights()
    content, style, image = (x.double() for x in pictures(43, 38))
    planned = PlannedEngine(build_objective(weights, content, style, settings, "torch"))
    got = planned.evaluate(image)
    x = image[0].clone().requires_grad_()
    loss = oracle.objective(
        x,
        content[0],
        style[0],
        weights.tensors,
        content_layers=settings.content_layers,
        layer_weights=settings.layer_weights(),
        alpha=settings.content_weight,
        beta=settings.style_weight,
        tau=settings.tv_weight,
    )
    (gradient,) = torch.autograd.grad(loss, x)
    # mean and standard deviation of the network's input are float32 numbers: 6e-8 relative
    assert float(got.terms.total) == pytest.approx(float(loss.detach()), rel=1e-6)
    scale = float(gradient.abs().max())
    torch.testing.assert_close(got.gradient[0], gradient, rtol=0, atol=1e-5 * scale)


def test_the_gradient_keeps_its_memory_and_the_picture_its_values(random_weights: Weights) -> None:
    planned, _, image = both(random_weights, SETTINGS[5], 41, 30)
    before = image.clone()
    first = planned.evaluate(image)
    memory, kept = first.gradient.data_ptr(), first.gradient.clone()
    assert planned.evaluate(image.flip(3)).gradient.data_ptr() == memory
    again = planned.evaluate(image)
    assert torch.equal(again.gradient, kept)
    assert torch.equal(again.terms.total, first.terms.total)
    assert torch.equal(image, before)


def test_pictures_of_another_size(random_weights: Weights) -> None:
    settings = Settings(content_weight=0.0, style_layers=("relu1_1", "relu2_1"))
    planned, autograd, image = both(random_weights, settings, 24, 32)
    for x in (image, image[..., :17, :21], image):
        agree(planned.evaluate(x), autograd.evaluate(x))


def test_one_position_is_left_at_the_deepest_layer(random_weights: Weights) -> None:
    settings = Settings(content_layers=("pool2",), style_layers=("relu3_1", "relu1_1"))
    for width, height in ((4, 4), (4, 9), (11, 5)):
        planned, autograd, image = both(random_weights, settings, width, height)
        agree(planned.evaluate(image), autograd.evaluate(image))


def test_filters_are_arranged_once_for_a_network(random_weights: Weights) -> None:
    content, style, _ = pictures(20, 20)
    cache = Cache()
    made = [
        PlannedEngine(
            build_objective(random_weights, content, style, SETTINGS[0], "torch", cache=cache),
            cache=cache,
        )
        for _ in range(2)
    ]
    assert made[0].filters is made[1].filters


def test_what_cannot_be_recorded_or_run_is_known_beforehand(
    random_weights: Weights, monkeypatch
) -> None:
    assert both(random_weights, SETTINGS[0], 16, 16)[0].capturable
    wasserstein = replace(SETTINGS[0], statistics=("gram", "wasserstein"))
    assert not both(random_weights, wasserstein, 16, 16)[0].capturable
    nothing = Settings(content_weight=0.0, style_weight=0.0, tv_weight=1.0)
    content, style, _ = pictures(20, 20)
    objective = build_objective(random_weights, content, style, nothing, "torch")
    assert unavailable_reason(objective) == "the objective uses no layer of the network"


def test_gram_matrices_are_as_coarse_as_the_convolutions_and_no_coarser(
    random_weights: Weights,
) -> None:
    content, style, _ = pictures(20, 20)
    objective = build_objective(random_weights, content, style, SETTINGS[0], "torch")
    wide, half = PlannedEngine(objective), PlannedEngine(objective, "bf16")
    for allowed, expected in ((True, "tf32"), (False, "fp32")):
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=allowed):
            assert wide._rounding() == expected
            assert half._rounding() == "bf16"  # the products of its features are exact


def test_a_race_of_the_users_decides_no_plan(
    random_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With cudnn.benchmark a resumed run might compute by other plans than the stopped one."""
    planned, _, image = both(random_weights, SETTINGS[0], 16, 16, dtype=torch.float32)
    seen: list[bool] = []
    convolve = cuda.convolve

    def watched(*arguments: object) -> Tensor:
        seen.append(torch.backends.cudnn.benchmark)
        return convolve(*arguments)

    monkeypatch.setattr(cuda, "convolve", watched)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    planned.evaluate(image)
    assert seen
    assert not any(seen)
    assert torch.backends.cudnn.benchmark
