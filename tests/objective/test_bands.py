"""Targets by bands of rows against those of whole pictures."""

from __future__ import annotations

import pytest
import torch

from fastnst.network.normalization import Normalization
from fastnst.network.vgg import VGG
from fastnst.network.weights import Weights
from fastnst.objective import build
from fastnst.objective.bands import describe_in_bands
from fastnst.objective.regions import everywhere
from helpers.strips import objective


@pytest.mark.parametrize("control", ["gram", "several statistics", "wasserstein", "regions"])
def test_targets_by_bands_equal_those_of_the_whole(
    random_weights: Weights, control: str, monkeypatch
) -> None:
    """Float64: sums in another order are all that differs. Bands of 24 rows, the least."""
    whole, image = objective(random_weights, 107, 31, control, torch.float64)
    actual = build.build_objective
    monkeypatch.setattr(
        "helpers.strips.build_objective",
        lambda *arguments: actual(*arguments, pixels=600),
    )
    bands, _ = objective(random_weights, 107, 31, control, torch.float64)
    for name, target in whole.content.state_dict().items():
        torch.testing.assert_close(bands.content.state_dict()[name], target, rtol=1e-12, atol=1e-12)
    for name, target in whole.style.state_dict().items():
        found = bands.style.state_dict()[name]
        # A variance is a difference here, whose rounding is that of the larger G.
        scale = float(target.abs().max())
        torch.testing.assert_close(found, target, rtol=1e-10, atol=1e-12 * scale)
    a, b = whole(image).total, bands(image).total
    assert float(a) == pytest.approx(float(b), rel=1e-9)


def test_a_sum_over_a_megapixel(random_weights: Weights) -> None:
    """Of a piece; one product in float32 is off by 3e-6."""
    names, mean, std = ("relu1_1",), random_weights.preprocessing.mean, (1.0, 1.0, 1.0)
    tensors, architecture = random_weights.tensors, random_weights.architecture
    network = VGG(architecture, tensors, names, "average", "zero")
    normalize, picture = Normalization(mean, std), torch.rand(1, 3, 1024, 1024).pow(4)
    found = describe_in_bands(
        network, normalize, picture, 0, names, everywhere(1), ("gram",), 4_000_000
    )
    (gram,) = found["relu1_1"][0, "gram"]
    with torch.no_grad():
        features = network(normalize(picture), names)["relu1_1"][0].flatten(1)
    parts = (part.double() for part in features.split(1 << 18, -1))
    truth = sum(part @ part.mT for part in parts) / features.shape[-1]
    assert isinstance(truth, torch.Tensor)
    assert float((gram.squeeze() - truth).abs().max() / truth.abs().max()) < 1e-6
