"""Each preset is the formula of the system that it names, computed here independently."""

from __future__ import annotations

import pytest
import torch

from fastnst.errors import InvalidInput
from fastnst.network import VGG19
from fastnst.objective import build_objective
from fastnst.presets import DESCRIPTIONS, PRESETS, make_settings
from fastnst.weights import load_weights
from oracle import features


def test_every_preset_is_described_and_uses_layers_that_exist() -> None:
    assert set(PRESETS) == set(DESCRIPTIONS)
    for preset in PRESETS.values():
        for layer in (*preset.content_layers, *preset.style_layers):
            VGG19.check_layer(layer)


def test_artistyle_is_its_formula() -> None:
    """content MSE at conv2_2 + 1e6 · ⅕ · Σ MSE of F Fᵀ / (C·H·W), five convolutions, max pooling."""
    weights = load_weights("vgg19")  # torchvision's cannot be had offline; the formula is the same
    settings = make_settings("artistyle")
    generator = torch.Generator().manual_seed(0)
    image, content, style = (torch.rand(1, 3, 26, 31, generator=generator) for _ in range(3))
    got = build_objective(weights, content, style, settings, "torch")(image).total

    layers = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]
    fx, fc, fs = (
        features(p[0].double(), weights.tensors, layers, "max") for p in (image, content, style)
    )

    def gram(f: torch.Tensor) -> torch.Tensor:
        flat = f.flatten(1)
        return flat @ flat.T / f.numel()

    expected = ((fx["conv2_2"] - fc["conv2_2"]) ** 2).mean()
    for layer in layers:
        expected = expected + 1e6 / 5 * ((gram(fx[layer]) - gram(fs[layer])) ** 2).mean()
    assert float(got) == pytest.approx(float(expected), rel=1e-5)


def test_a_preset_can_be_overridden() -> None:
    settings = make_settings("artistyle", {"style_weight": 7.0, "weights": "vgg19"})
    assert settings.style_weight == 7
    assert settings.pooling == "max"
    with pytest.raises(InvalidInput, match="style_weight is -1"):
        make_settings("artistyle", {"style_weight": -1.0})
