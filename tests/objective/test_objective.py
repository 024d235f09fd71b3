"""The objective and its gradient against an independent float64 implementation."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch

from fastnst.cache import Cache
from fastnst.engines.create import create_engine, unavailable_reason
from fastnst.errors import InvalidInput
from fastnst.images.decode import load_image
from fastnst.images.pixels import resize, to_tensor
from fastnst.network.weights import load_weights
from fastnst.objective.build import build_objective
from fastnst.ops import extension
from fastnst.settings.settings import Settings
from helpers.oracle import objective

ENGINES = [
    "torch",
    pytest.param(
        "native",
        marks=pytest.mark.skipif(not extension.is_available(), reason="no compiled extension"),
    ),
    pytest.param(
        "onnx",
        marks=pytest.mark.skipif(
            unavailable_reason("onnx", torch.device("cpu")) is not None, reason="no onnxruntime"
        ),
    ),
]


def picture(name: str, width: int, height: int) -> torch.Tensor:
    return to_tensor(resize(load_image(f"sample:{name}"), width, height))


CASES = {
    "default": (Settings(), 48, 32),
    "odd at every pooling": (Settings(), 61, 37),
    "max pooling": (Settings(pooling="max", tv_weight=3.0), 45, 34),
    "weights and layers": (
        Settings(
            content_layers=("conv2_2", "relu3_1"),
            style_layers=("conv1_1", "pool1", "relu3_2"),
            style_layer_weights=(0.5, 2.0, 1.0),
            content_weight=0.3,
            style_weight=2.0,
        ),
        33,
        29,
    ),
    "style": (Settings(content_weight=0.0), 32, 32),
    "content": (Settings(style_weight=0.0), 40, 24),
}


def pictures_of(case: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Content, style and the picture to evaluate."""
    _, width, height = CASES[case]
    content = picture("harbour", width, height)
    noise = torch.randn(content.shape, generator=torch.Generator().manual_seed(3))
    return content, picture("swirl", width + 5, height + 3), content + 0.1 * noise


@functools.cache
def in_float64(case: str) -> tuple[float, torch.Tensor]:
    """Loss and gradient, computed once for all engines."""
    settings, weights = CASES[case][0], load_weights()
    content, style, image = pictures_of(case)
    x = image[0].double().requires_grad_()
    loss = objective(
        x,
        content[0].double(),
        style[0].double(),
        weights.tensors,
        content_layers=settings.content_layers if settings.content_weight else (),
        layer_weights=settings.layer_weights() if settings.style_weight else {},
        alpha=settings.content_weight,
        beta=settings.style_weight,
        tau=settings.tv_weight,
        kind=settings.pooling,
    )
    (gradient,) = torch.autograd.grad(loss, x)
    return float(loss.detach()), gradient


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_equal_float64(case: str, engine: str) -> None:
    content, style, image = pictures_of(case)
    settings = Settings(**{**CASES[case][0].to_dict(), "engine": engine})
    evaluation = create_engine(load_weights(), content, style, settings).evaluate(image)
    expected, gradient = in_float64(case)
    assert float(evaluation.terms.total) == pytest.approx(expected, rel=1e-5)
    got = evaluation.gradient[0].double()
    cosine = torch.nn.functional.cosine_similarity(got.flatten(), gradient.flatten(), dim=0)
    assert float(cosine) >= 0.99999
    assert float(got.norm() / gradient.norm()) == pytest.approx(1, rel=1e-4)


def test_terms_add_up_to_the_total(random_weights) -> None:
    settings = Settings(
        content_layers=("relu2_2",), style_layers=("relu1_1", "relu3_1"), tv_weight=0.5
    )
    content, style = torch.rand(1, 3, 20, 24), torch.rand(1, 3, 30, 17)
    terms = build_objective(random_weights, content, style, settings)(torch.rand(1, 3, 20, 24))
    total = settings.content_weight * sum(terms.content.values())
    total = total + settings.style_weight * sum(0.5 * g for g in terms.style.values())
    total = total + 0.5 * terms.tv
    torch.testing.assert_close(terms.total, total)


def test_evaluate_leaves_the_picture_alone(random_weights) -> None:
    settings = Settings(content_layers=("relu2_2",), style_layers=("relu1_1",))
    content = torch.rand(1, 3, 20, 24)
    engine = create_engine(random_weights, content, content, settings)
    image = torch.rand(1, 3, 20, 24)
    before = image.clone()
    engine.evaluate(image)
    assert torch.equal(image, before)
    assert image.grad is None
    assert not image.requires_grad


def test_nothing_is_built_beyond_the_deepest_layer(random_weights) -> None:
    settings = Settings(content_layers=("conv2_1",), style_layers=("relu1_1",))
    content = torch.rand(1, 3, 8, 8)
    objective = build_objective(random_weights, content, content, settings)
    assert list(objective.network.layers) == [
        "conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1", "conv2_1"
    ]  # fmt: skip


def test_a_picture_too_small_for_the_deepest_layer() -> None:
    small, large = torch.rand(1, 3, 15, 64), torch.rand(1, 3, 64, 64)
    weights = load_weights()
    with pytest.raises(InvalidInput, match=r"content picture is 64×15 .* at least 16"):
        build_objective(weights, small, large, Settings())
    with pytest.raises(InvalidInput, match="style picture is 64×15"):
        build_objective(weights, large, small, Settings())
    build_objective(weights, large, torch.rand(1, 3, 16, 16), Settings())


def test_style_targets_are_those_of_the_style_layers(random_weights) -> None:
    """Though another objective with the same network had other layers for the style."""
    cache = Cache()
    content, style = torch.rand(1, 3, 24, 24), torch.rand(1, 3, 24, 24)
    layers = ("relu2_2", "relu1_1", "relu2_1")
    for first in (2, 1):
        settings = Settings(content_layers=layers[:first], style_layers=layers[first:])
        built = build_objective(random_weights, content, style, settings, cache=cache)
        alone = build_objective(random_weights, content, style, settings)
        assert list(built.style) == list(layers[first:])
        for key, loss in alone.style.items():
            assert torch.equal(built.style[key].target_gram, loss.target_gram)


@pytest.mark.parametrize(
    "other",
    [
        {"pooling": "max"},
        {"padding": "replicate"},
        {"statistics": ("covariance",)},
        {"style_layers": ("relu1_1", "relu2_1")},
    ],
)
def test_what_is_remembered_is_that_of_the_same_settings(random_weights, other: dict) -> None:
    """Runs that share a cache, as those of a batch do, are what they are alone."""
    cache = Cache()
    content, style, image = (torch.rand(1, 3, 24, 24) for _ in range(3))
    plain = Settings(content_layers=("relu2_2",), style_layers=("relu1_1", "relu2_2"))
    for settings in (plain, replace(plain, **other), plain):
        built = build_objective(random_weights, content, style, settings, cache=cache)
        alone = build_objective(random_weights, content, style, settings)
        assert torch.equal(built(image).total, alone(image).total)


def test_targets_by_pieces_are_not_taken_for_those_of_the_whole(random_weights) -> None:
    """They differ by rounding, and a run does not depend on the one before it."""
    cache, style = Cache(), torch.rand(1, 3, 107, 31)
    settings = Settings(content_layers=("relu1_1",), style_layers=("relu1_1", "relu2_2"))
    found = []
    for pixels in (600, None):
        built = build_objective(random_weights, style, style, settings, cache=cache, pixels=pixels)
        alone = build_objective(random_weights, style, style, settings, pixels=pixels)
        found.append(built.style["relu2_2"].target_gram)
        assert torch.equal(found[-1], alone.style["relu2_2"].target_gram)
    assert not torch.equal(*found)
