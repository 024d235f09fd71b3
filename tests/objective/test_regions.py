"""Regions: guidance at a layer, and guided losses against float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fastnst.engines.create import create_engine
from fastnst.errors import InvalidInput
from fastnst.network.weights import Weights
from fastnst.objective.build import build_objective
from fastnst.objective.regions import Region
from fastnst.settings.settings import Settings
from helpers.controls import CONTENT, ENGINES, HEIGHT, IMAGE, STYLES, WIDTH, compare
from helpers.oracle import features, style_distance

SETTINGS = Settings(
    content_layers=("relu2_2",),
    style_layers=("relu1_1", "pool1", "relu3_1"),
    style_layer_weights=(1.0, 0.5, 2.0),
    style_weight=3.0,
    style_blend=(1.0, 3.0),
)
STATISTICS = ["gram", "covariance", "mean-std", "wasserstein"]


def soft_maps() -> tuple[Tensor, Tensor]:
    """A soft edge from left to right, and what is left of it."""
    left = torch.linspace(1.3, -0.3, WIDTH).clamp(0, 1).expand(HEIGHT, WIDTH).contiguous()
    return left, 1 - left


def blob(style: Tensor, seed: int) -> Tensor:
    height, width = style.shape[-2:]
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0, 0]


LEFT, RIGHT = soft_maps()
REGIONS = (
    Region({0: blob(STYLES[0], 1)}, LEFT, "left"),
    Region({0: None, 1: blob(STYLES[1], 2)}, RIGHT, "right"),
)


def guidance(membership: Tensor | None, features_there: Tensor) -> Tensor:
    """T at a layer, Σ T² = 1: the mean over 2×2 windows, as often as features were pooled."""
    if membership is None:
        t = torch.ones_like(features_there[0])
    else:
        t = membership.double()
        while t.shape != features_there[0].shape:
            h, w = t.shape[0] // 2 * 2, t.shape[1] // 2 * 2
            t = (t[0:h:2, 0:w:2] + t[1:h:2, 0:w:2] + t[0:h:2, 1:w:2] + t[1:h:2, 1:w:2]) / 4
    return t / (t**2).sum().sqrt()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("statistics", STATISTICS)
def test_guided_losses_equal_float64(random_weights: Weights, statistics: str, engine: str) -> None:
    settings = replace(SETTINGS, statistics=(statistics,), blending="losses", engine=engine)
    x = IMAGE[0].double().requires_grad_()
    names = {*settings.content_layers, *settings.style_layers}
    fx, fc, *fs = (
        features(p[0].double() if p is not x else x, random_weights.tensors, names, "average")
        for p in (x, CONTENT, *STYLES)
    )
    total = ((fx["relu2_2"] - fc["relu2_2"]) ** 2).mean()
    blends = [{0: 1.0}, {0: 0.25, 1: 0.75}]  # 1:3, in the region where both are
    for region, blend in zip(REGIONS, blends, strict=True):
        share = region.content.double().mean()  # its part of the area
        for name, weight in settings.layer_weights().items():
            t = guidance(region.content, fx[name])
            for k, b in blend.items():
                u = guidance(region.styles[k], fs[k][name])
                distance = style_distance(statistics, fx[name], fs[k][name], t, u)
                total = total + settings.style_weight * weight * share * b * distance
    (gradient,) = torch.autograd.grad(total, x)
    built = create_engine(random_weights, CONTENT, STYLES, settings, REGIONS)
    compare(built.evaluate(IMAGE), total, gradient)


def test_the_shares_of_a_partition_have_the_sum_1() -> None:
    """Whatever its edges: a soft edge takes from one region what it gives to the other."""
    hard = torch.zeros(HEIGHT, WIDTH)
    hard[:, :5] = 1
    for where in (LEFT, hard, blob(CONTENT, 3), torch.full((HEIGHT, WIDTH), 0.5)):
        shares = [Region({0: None}, part).share for part in (where, 1 - where)]
        assert sum(shares) == pytest.approx(1, rel=1e-6)  # of float32 sums
    assert Region({0: None}, hard).share == 5 / WIDTH  # exactly


@pytest.mark.parametrize("grey", [0.5, 0.2])
def test_one_painting_twice_under_a_grey_mask_is_as_strong_as_without(
    random_weights: Weights, grey: float
) -> None:
    settings = replace(SETTINGS, content_weight=0.0, style_blend=None)
    where = torch.full((HEIGHT, WIDTH), grey)
    regions = (Region({0: None}, where), Region({1: None}, 1 - where))
    twice = [STYLES[0], STYLES[0]]
    plain = build_objective(random_weights, CONTENT, twice[:1], settings, "torch")(IMAGE)
    masked = build_objective(random_weights, CONTENT, twice, settings, "torch", regions)(IMAGE)
    # guidance is 1 but for its rounding in float32
    assert float(masked.total) == pytest.approx(float(plain.total), rel=1e-5)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_a_mask_that_is_all_white_changes_nothing(random_weights: Weights, statistics: str) -> None:
    settings = replace(SETTINGS, statistics=(statistics,), style_blend=None)
    ones = Region({0: torch.ones(STYLES[0].shape[-2:])}, torch.ones(HEIGHT, WIDTH))
    plain, masked = (
        build_objective(random_weights, CONTENT, STYLES[:1], settings, "torch", regions)(IMAGE)
        for regions in (None, (ones,))
    )
    torch.testing.assert_close(masked.total, plain.total)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_style_stays_in_its_region(random_weights: Weights, engine: str) -> None:
    """Beyond the receptive field of relu3_1 (24 pixels) from the region the gradient is zero."""
    where = torch.zeros(32, 96)
    where[:, :24] = 1
    content, image = torch.rand(1, 3, 32, 96), torch.rand(1, 3, 32, 96)
    settings = replace(SETTINGS, content_weight=0.0, style_blend=None, engine=engine)
    region = Region({0: None}, where)
    built = create_engine(random_weights, content, STYLES[:1], settings, (region,))
    gradient = built.evaluate(image).gradient
    assert float(gradient[..., :24].abs().max()) > 0
    assert float(gradient[..., 56:].abs().max()) == 0


def test_a_small_region_is_as_strong_per_pixel_as_a_large_one(random_weights: Weights) -> None:
    """The same texture everywhere: halving the region halves its loss and leaves its gradient."""
    tile = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    image = tile.repeat(1, 1, 2, 8)
    settings = replace(
        SETTINGS, content_weight=0.0, style_blend=None, style_layers=("relu1_1",),
        style_layer_weights=None,
    )  # fmt: skip
    gradients, losses = [], []
    for columns in (128, 64):
        where = torch.zeros(32, 128)
        where[:, :columns] = 1
        x = image.clone().requires_grad_()
        objective = build_objective(
            random_weights, image, STYLES[:1], settings, "torch", (Region({0: None}, where),)
        )
        total = objective(x).total
        losses.append(float(total.detach()))
        gradients.append(torch.autograd.grad(total, x)[0][..., 8:24, 16:48])
    # the rows and columns at the picture's edge differ, by zero padding
    assert losses[1] == pytest.approx(losses[0] / 2, rel=0.02)
    cosine = torch.nn.functional.cosine_similarity(*(g.flatten() for g in gradients), dim=0)
    assert float(cosine) > 0.999
    assert float(gradients[1].norm() / gradients[0].norm()) == pytest.approx(1, rel=0.02)


def test_a_region_too_small_for_the_layers_is_named() -> None:
    with pytest.raises(InvalidInput, match="left of the content mask is too small"):
        Region({0: None}, torch.zeros(8, 8), "left").content_guidance((4, 4))
