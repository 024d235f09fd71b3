"""Each preset is the formula of the system that it names, computed here independently.

The formulas are written as those systems have them (what they divide by, their units), in float64.
torchvision's weights cannot be had offline: the formula is the same on others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.network.architecture import VGG19
from fastnst.network.weights import CAFFE, TORCHVISION, TORCHVISION_255, Weights, load_weights
from fastnst.objective.build import build_objective
from fastnst.settings.presets import (
    AGAINST_GRAIN,
    COMMON,
    DESCRIPTIONS,
    PRESETS,
    make_settings,
)
from fastnst.settings.settings import DEFAULTS, Settings
from helpers.oracle import CAFFE_MEAN, features

PAPER = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
TORCH_MEAN = tuple(255 * v for v in (0.485, 0.456, 0.406))
TORCH_STD = tuple(255 * v for v in (0.229, 0.224, 0.225))
ONE = (1.0, 1.0, 1.0)


def gram(f: Tensor, divisor: float) -> Tensor:
    flat = f.flatten(1)
    return flat @ flat.T / divisor


def mse(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b) ** 2).mean()


def shifts(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[:, 1:] - x[:, :-1], x[:, :, 1:] - x[:, :, :-1]


Features = Mapping[str, Tensor]


def gatys(x: Tensor, fx: Features, fc: Features, fs: list[Features]) -> Tensor:
    style = sum(
        mse(gram(fx[n], fx[n][0].numel()), gram(fs[0][n], fs[0][n][0].numel())) for n in PAPER
    )
    return mse(fx["relu4_2"], fc["relu4_2"]) + 10 * style / 5


def fast(x: Tensor, fx: Features, fc: Features, fs: list[Features], weight=2.0) -> Tensor:
    """That of ``gatys``, and the total variation of U = B − L and V = R − L."""
    luminance = 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]
    rows, columns = shifts(torch.stack([x[2] - luminance, x[0] - luminance]))
    return gatys(x, fx, fc, fs) + weight * ((rows**2).mean() + (columns**2).mean())


def artistyle(x: Tensor, fx: Features, fc: Features, fs: list[Features], weight=1e6 / 5) -> Tensor:
    """content MSE at conv2_2 + 1e6 · ⅕ · Σ MSE of F Fᵀ / (C·H·W), five convolutions."""
    layers = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]
    style = sum(mse(gram(fx[n], fx[n].numel()), gram(fs[0][n], fs[0][n].numel())) for n in layers)
    return mse(fx["conv2_2"], fc["conv2_2"]) + weight * style


def pytorch_tutorial(x: Tensor, fx: Features, fc: Features, fs: list[Features]) -> Tensor:
    return artistyle(x, fx, fc, fs, 1e6)


def neural_style(x: Tensor, fx: Features, fc: Features, fs: list[Features]) -> Tensor:
    style = sum(mse(gram(fx[n], fx[n].numel()), gram(fs[0][n], fs[0][n].numel())) for n in PAPER)
    variation = sum(d.abs().sum() for d in shifts(255 * x))
    return 5 * mse(fx["relu4_2"], fc["relu4_2"]) + 100 * style + 1e-3 * variation


def pastiche(x: Tensor, fx: Features, fc: Features, fs: list[Features]) -> Tensor:
    """Two styles with the weight ½ each, the sum of their losses."""
    style = sum(
        0.5
        * 1e3
        / fx[n].shape[0] ** 2
        * mse(gram(fx[n], fx[n][0].numel()), gram(one[n], one[n][0].numel()))
        for n in PAPER
        for one in fs
    )
    return 0.01 * (mse(fx["relu4_2"], fc["relu4_2"]) + style)


def gordicaleksa(x: Tensor, fx: Features, fc: Features, fs: list[Features]) -> Tensor:
    style = sum(
        ((gram(fx[n], fx[n].numel()) - gram(fs[0][n], fs[0][n].numel())) ** 2).sum() for n in PAPER
    )
    variation = sum(d.abs().sum() for d in shifts(255 * x))
    return 1e5 * mse(fx["relu4_2"], fc["relu4_2"]) + 3e4 * style / 5 + variation


def crowsonkb(x: Tensor, fx: Features, fc: Features, fs: list[Features]) -> Tensor:
    style = sum(
        w / 341 * wasserstein(fx[n], fs[0][n])
        for n, w in zip(PAPER, (256, 64, 16, 4, 1), strict=True)
    )
    p = torch.nn.functional.pad(x[None], (1, 1, 1, 1), mode="replicate")[0]
    variation = 2 * (
        mse(p[:, 1:-1, 2:], p[:, 1:-1, 1:-1]) / 3
        + mse(p[:, 2:, 1:-1], p[:, 1:-1, 1:-1]) / 3
        + mse(p[:, 1:, 1:], p[:, :-1, :-1]) / 12
        + mse(p[:, 1:, :-1], p[:, :-1, 1:]) / 12
    )
    return 0.015 * mse(fx["relu4_2"], fc["relu4_2"]) + style + 2 * variation


def wasserstein(f: Tensor, a: Tensor) -> Tensor:
    means, covariances = [], []
    for flat in (f.flatten(1), a.flatten(1)):
        means.append(flat.mean(1))
        second = flat @ flat.T / flat.shape[1]
        covariances.append(second - torch.outer(means[-1], means[-1]))
    # 1e-4, where features are as small as those of normalised weights
    ridge = max(1e-4, 1e-6 * float(covariances[1].diagonal().mean()))
    covariances = [c + ridge * torch.eye(len(c), dtype=c.dtype) for c in covariances]
    # the eigenvalues of Σ' Σ are those of Σ'^½ Σ Σ'^½
    roots = torch.linalg.eigvals(covariances[1] @ covariances[0]).real.clamp_min(0).sqrt()
    trace = covariances[0].trace() + covariances[1].trace() - 2 * roots.sum()
    return mse(means[0], means[1]) + trace / len(means[0])


# preset: formula, pooling, padding, mean and std of the input in units of 0–255, style pictures
FORMULAS: dict[str, tuple[Callable[..., Tensor], str, str, tuple, tuple, int]] = {
    "gatys": (gatys, "average", "zero", CAFFE_MEAN, ONE, 1),
    "fast": (fast, "average", "zero", CAFFE_MEAN, ONE, 1),
    "hires": (partial(fast, weight=0.5), "average", "zero", CAFFE_MEAN, ONE, 1),
    "artistyle": (artistyle, "max", "zero", TORCH_MEAN, TORCH_STD, 1),
    "pytorch-tutorial": (pytorch_tutorial, "max", "zero", TORCH_MEAN, TORCH_STD, 1),
    "neural-style": (neural_style, "max", "zero", CAFFE_MEAN, ONE, 1),
    "pastiche": (pastiche, "max", "zero", CAFFE_MEAN, ONE, 2),
    "gordicaleksa": (gordicaleksa, "max", "zero", TORCH_MEAN, ONE, 1),
    "crowsonkb": (crowsonkb, "max", "replicate", TORCH_MEAN, TORCH_STD, 1),
}


def stand_in(settings: Settings) -> Weights:
    """The weights of a preset, or, for torchvision's, the offline ones with torchvision's input."""
    if settings.weights != "torchvision":
        return load_weights(settings.weights, settings.preprocessing)
    weights = load_weights()
    if settings.preprocessing == "torchvision-255":
        return replace(weights, preprocessing=TORCHVISION_255)
    first = weights.tensors["conv1_1.weight"]
    std = torch.tensor(TORCH_STD).view(1, 3, 1, 1)
    return replace(
        weights,
        preprocessing=TORCHVISION,
        tensors={**weights.tensors, "conv1_1.weight": first * std},
    )


def picture(width: int, height: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 7, 9, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return smooth + 0.05 * torch.randn(1, 3, height, width, generator=generator)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_its_formula(preset: str) -> None:
    formula, pooling, padding, mean, std, count = FORMULAS[preset]
    settings = make_settings(preset)
    weights = stand_in(settings)
    image, content = picture(45, 34, 0), picture(45, 34, 1)
    styles = [picture(37, 50, 2 + k) for k in range(count)]
    got = build_objective(weights, content, styles, settings, "torch")(image).total
    names = {*settings.content_layers, *settings.style_layers}
    found = [
        features(p[0].double(), weights.tensors, names, pooling, padding, (mean, std))
        for p in (image, content, *styles)
    ]
    expected = formula(image[0].double(), found[0], found[1], found[2:])
    assert float(got) == pytest.approx(float(expected), rel=1e-5)


def test_every_preset_is_described_and_uses_layers_that_exist() -> None:
    assert set(PRESETS) == set(DESCRIPTIONS) == set(FORMULAS)
    for preset in PRESETS.values():
        for layer in (*preset.content_layers, *preset.style_layers):
            VGG19.check_layer(layer)


def test_preprocessing_of_the_presets() -> None:
    assert load_weights("vgg19").preprocessing is CAFFE
    assert load_weights("vgg19", "torchvision-255").preprocessing is TORCHVISION_255
    # RGB 0–255 minus the mean: (x − m) · 255 for x and m in [0, 1]
    assert TORCHVISION_255.std == CAFFE.std
    assert TORCHVISION_255.mean == TORCHVISION.mean


def test_a_preset_can_be_overridden() -> None:
    settings = make_settings("artistyle", {"style_weight": 7.0, "weights": "vgg19"})
    assert settings.style_weight == 7
    assert settings.pooling == "max"
    with pytest.raises(InvalidInput, match="style_weight is -1"):
        make_settings("artistyle", {"style_weight": -1.0})


def test_a_total_variation_without_a_form_is_of_all_colours_and_grey() -> None:
    """``fast`` has that of colour; who asks for a smoother picture does not mean this one."""
    assert make_settings("fast").tv_form == "color"
    assert make_settings("fast", {"tv_weight": 10.0}).tv_form == "squared"
    assert make_settings("fast", {"tv_weight": 10.0, "tv_form": "color"}).tv_form == "color"
    assert make_settings("fast", {"tv_form": "absolute"}).tv_weight == 2
    assert make_settings("neural-style", {"tv_weight": 0.1}).tv_form == "absolute-sum"
    assert {name for name, of in PRESETS.items() if of.tv_form == "color"} == set(AGAINST_GRAIN)
    # of another preset the same form and weight were chosen, and so is what replaces the weight
    own = {"tv_weight": 2.0, "tv_form": "color"}
    assert make_settings("gatys", {**own, "tv_weight": 5.0}).tv_form == "color"
    assert make_settings("fast", {**own, "tv_weight": 5.0}).tv_form == "color"


def test_what_presets_have_in_common_is_what_none_has_of_its_own() -> None:
    for name in COMMON:
        own = {getattr(preset, name) for preset in PRESETS.values()}
        assert own == {DEFAULTS[name]} or name == "size", name
        # no setting of a preset needs it, and it needs none
        assert not name.endswith("_weights")
