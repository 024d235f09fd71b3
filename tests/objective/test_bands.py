"""Targets by bands of rows against those of whole pictures."""

from __future__ import annotations

import pytest
import torch

from fastnst.network.weights import Weights
from fastnst.objective import build
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
