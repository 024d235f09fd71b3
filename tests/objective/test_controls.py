"""Every control of the objective, its value and gradient, in each engine against float64.

The oracle (tests/helpers/oracle.py) is written from the definitions; regions have their own file.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fastnst.engines.create import create_engine
from fastnst.engines.planned.cpu import NativeEngine
from fastnst.errors import InvalidInput
from fastnst.losses import StyleLoss, WeightedLoss
from fastnst.network.weights import Weights
from fastnst.objective.build import build_objective
from fastnst.ops import extension
from fastnst.settings.settings import Settings
from helpers.controls import CONTENT, ENGINES, IMAGE, STYLES, compare
from helpers.networks import made_of_noise
from helpers.oracle import features, no_guidance, style_distance, total_variation

SHALLOW = Settings(
    content_layers=("relu2_2", "conv2_1"),
    content_layer_weights=(0.5, 2.0),
    style_layers=("relu1_1", "conv1_2", "pool1", "relu3_1"),
    style_layer_weights=(0.5, 1.0, 2.0, 0.25),
    content_weight=0.7,
    style_weight=3.0,
)


def oracle(image: Tensor, weights: Weights, settings: Settings, styles: tuple[Tensor, ...]):
    """``{("content", layer): (weight, loss)}`` and so on, and the features of the image."""
    names = {*settings.content_layers, *settings.style_layers}
    kinds = settings.pooling, settings.padding
    fx = features(image, weights.tensors, names, *kinds)
    fc = features(CONTENT[0].double(), weights.tensors, names, *kinds)
    fs = [features(s[0].double(), weights.tensors, names, *kinds) for s in styles]
    blend = settings.style_blend or (1.0,) * len(styles)
    terms = {}
    for name, weight in settings.content_weights().items():
        loss = ((fx[name] - fc[name]) ** 2).sum() / fc[name].numel()
        terms["content", name] = settings.content_weight * weight, loss
    for name, weight in settings.layer_weights().items():
        f = fx[name]
        loss = sum(
            v
            * b
            / sum(blend)
            * style_distance(kind, f, a[name], no_guidance(f), no_guidance(a[name]))
            for a, b in zip(fs, blend, strict=True)
            for kind, v in zip(
                settings.statistics,
                settings.statistics_weights or (1.0,) * len(settings.statistics),
                strict=True,
            )
        )
        terms["style", name] = settings.style_weight * weight, loss
    if settings.tv_weight:
        terms["tv", ""] = settings.tv_weight, total_variation(image, settings.tv_form)
    return terms, fx


def evaluate(weights: Weights, settings: Settings, styles: tuple[Tensor, ...], engine: str):
    settings = replace(settings, engine=engine)
    built = create_engine(weights, CONTENT, list(styles), settings)
    assert isinstance(built, NativeEngine) == (engine == "native")
    return built.evaluate(IMAGE)


CONTROLS = {
    "layers and weights": {},
    "max pooling": {"pooling": "max"},
    "l2 pooling": {"pooling": "l2"},
    "l2 pooling, replicate": {"pooling": "l2", "padding": "replicate"},
    "replicate": {"padding": "replicate", "style_layers": ("conv1_1", "relu1_1"),
                  "style_layer_weights": (1.0, 1.0)},
    "covariance": {"statistics": ("covariance",)},
    "mean-std": {"statistics": ("mean-std",)},
    "wasserstein": {"statistics": ("wasserstein",)},
    "gram and mean-std": {"statistics": ("gram", "mean-std"), "statistics_weights": (0.5, 30.0)},
    "tv absolute": {"tv_weight": 3.0, "tv_form": "absolute"},
    "tv absolute-sum": {"tv_weight": 0.01, "tv_form": "absolute-sum"},
    "tv squared": {"tv_weight": 3.0},
    "tv squared-sum": {"tv_weight": 0.01, "tv_form": "squared-sum"},
    "tv nine-point": {"tv_weight": 3.0, "tv_form": "nine-point"},
    "tv color": {"tv_weight": 3.0, "tv_form": "color"},
}  # fmt: skip


@functools.cache
def in_float64(settings: Settings, styles: int) -> tuple[Tensor, Tensor, dict]:
    """Total, gradient and the single losses with the first styles, once for all engines."""
    x = IMAGE[0].double().requires_grad_()
    terms, _ = oracle(x, made_of_noise(), settings, STYLES[:styles])
    total = sum(weight * loss for weight, loss in terms.values())
    (gradient,) = torch.autograd.grad(total, x)
    return total.detach(), gradient, {key: float(loss.detach()) for key, (_, loss) in terms.items()}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_equals_float64(random_weights: Weights, control: str, engine: str) -> None:
    settings = replace(SHALLOW, **CONTROLS[control])
    total, gradient, losses = in_float64(settings, 1)
    got = evaluate(random_weights, settings, STYLES[:1], engine)
    compare(got, total, gradient)
    for (kind, name), loss in losses.items():
        value = got.terms.tv if kind == "tv" else getattr(got.terms, kind)[name]
        assert float(value) == pytest.approx(loss, rel=2e-5), (kind, name)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("statistics", ["gram", "covariance", "mean-std", "wasserstein"])
def test_blended_losses_equal_float64(
    random_weights: Weights, statistics: str, engine: str
) -> None:
    settings = replace(SHALLOW, statistics=(statistics,), style_blend=(1.0, 3.0), blending="losses")
    total, gradient, _ = in_float64(settings, 2)
    compare(evaluate(random_weights, settings, STYLES, engine), total, gradient)


@functools.cache
def normalised_in_float64(settings: Settings, order: int) -> tuple[Tensor, Tensor]:
    """Total, and the sum of each layer's gradient divided by its norm at the layer."""
    x = IMAGE[0].double().requires_grad_()
    terms, fx = oracle(x, made_of_noise(), settings, STYLES[:1])
    expected = torch.zeros_like(x)
    for (kind, name), (weight, loss) in terms.items():
        if kind == "tv":
            expected += weight * torch.autograd.grad(loss, x, retain_graph=True)[0]
            continue
        (at_layer,) = torch.autograd.grad(loss, fx[name], retain_graph=True)
        at_layer = weight * at_layer / (at_layer.abs() ** order).sum() ** (1 / order)
        expected += torch.autograd.grad(fx[name], x, at_layer, retain_graph=True)[0]
    return sum(weight * loss for weight, loss in terms.values()).detach(), expected


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("norm", "order"), [("l1", 1), ("l2", 2)])
def test_normalised_gradients(random_weights: Weights, norm: str, order: int, engine: str) -> None:
    """Each layer's gradient, divided by its norm at the layer, then weighted, then sent back."""
    settings = replace(SHALLOW, gradient_norm=norm, tv_weight=0.1)
    total, expected = normalised_in_float64(settings, order)
    compare(evaluate(random_weights, settings, STYLES[:1], engine), total, expected)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "control", ["l2 pooling, replicate", "covariance", "mean-std", "wasserstein", "normalised"]
)
def test_a_control_in_bfloat16(random_weights: Weights, control: str, engine: str) -> None:
    if engine == "native" and not extension.convolves_bfloat16():
        pytest.skip("no processor with avx512bf16")
    controls = {**CONTROLS, "normalised": {"gradient_norm": "l1"}}
    settings = replace(SHALLOW, **controls[control])
    exact = evaluate(random_weights, settings, STYLES[:1], "torch")
    got = evaluate(random_weights, replace(settings, precision="bf16"), STYLES[:1], engine)
    # eight bits: features are off by half a per cent, and statistics of them by less
    assert float(got.terms.total) == pytest.approx(float(exact.terms.total), rel=0.02)
    cosine = torch.nn.functional.cosine_similarity(
        got.gradient.flatten(), exact.gradient.flatten(), dim=0
    )
    assert float(cosine) > 0.99


def test_a_plain_run_keeps_the_fused_losses(random_weights: Weights) -> None:
    """Blended styles too: engines fuse StyleLoss, whatever its target was made of."""
    for blending in ("targets", "losses"):
        objective = build_objective(
            random_weights, CONTENT, STYLES, replace(SHALLOW, blending=blending)
        )
        assert {type(loss) for loss in objective.style.values()} == {StyleLoss}
    settings = replace(SHALLOW, blending="losses", statistics=("wasserstein",))
    objective = build_objective(random_weights, CONTENT, STYLES, settings)
    assert {type(loss) for loss in objective.style.values()} == {WeightedLoss}


def test_weights_keep_their_meaning_at_every_size(random_weights: Weights) -> None:
    """Every picture twice as large by repeating it: losses stay, but for the edges and sums."""
    for kind in ("gram", "covariance", "mean-std", "wasserstein"):
        settings = replace(SHALLOW, statistics=(kind,), padding="replicate")
        small, large = (
            build_objective(
                random_weights,
                CONTENT.repeat(1, 1, n, n),
                STYLES[0].repeat(1, 1, n, n),
                settings,
                "torch",
            )(IMAGE.repeat(1, 1, n, n))
            for n in (2, 4)
        )
        # tiles have edges in common: they differ by an edge's part of the positions
        assert float(large.total) == pytest.approx(float(small.total), rel=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"style_blend": (1.0,)}, "style_blend has 1 values for 2 style pictures"),
        ({"style_scale": (1.0, 1.0, 2.0)}, "style_scale has 3 values for 2 style pictures"),
        ({"style_scale": (0.0, 1.0)}, "style_scale .* above 0"),
        ({"style_blend": (0.0, 0.0)}, "no proportion above 0"),
        ({"style_blend": (-1.0, 2.0)}, "style_blend is -1"),
        ({"statistics": ("gramm",)}, "statistics is 'gramm': choose one of gram"),
        ({"statistics": ()}, "statistics is"),
        ({"statistics": "gram"}, "statistics is 'gram'"),
        ({"statistics_weights": (1.0, 2.0)}, "statistics_weights has 2 values for 1 statistics"),
        ({"content_layer_weights": (1.0,)}, "1 values for 2 content layers"),
        ({"tv_form": "L1"}, "tv_form is 'L1': choose one of squared"),
        ({"gradient_norm": "l3"}, "gradient_norm is 'l3'"),
        ({"padding": "reflect"}, "padding is 'reflect'"),
        ({"blending": "mean"}, "blending is 'mean'"),
        ({"style_size": -1}, "style_size is -1"),
        ({"style_size": 40, "style_fit": "content"}, "style_size is 40, which style_fit 'content'"),
        ({"style_size": 0, "style_fit": "content"}, "style_size is 0, which style_fit 'content'"),
    ],
)
def test_bad_controls_are_named(random_weights: Weights, settings: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        build_objective(random_weights, CONTENT, STYLES, replace(SHALLOW, **settings))


@pytest.mark.parametrize(
    "control",
    [
        {"pooling": "l2"},
        {"padding": "replicate"},
        {"statistics": ("covariance",)},
        {"statistics": ("gram", "mean-std")},
        {"statistics": ("wasserstein",)},
        {"tv_weight": 1.0, "tv_form": "nine-point"},
        {"gradient_norm": "l1"},
        {"blending": "losses"},
    ],
)
def test_onnx_says_what_it_does_not_run(random_weights: Weights, control: dict) -> None:
    pytest.importorskip("onnx")
    from fastnst.onnx_graph import unavailable_reason

    plain, other = (
        build_objective(random_weights, CONTENT, STYLES, replace(SHALLOW, **c), "torch")
        for c in ({}, control)
    )
    assert unavailable_reason(plain) is None
    assert unavailable_reason(other)
