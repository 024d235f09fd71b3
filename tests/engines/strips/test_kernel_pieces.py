"""Pieces by the plan with our kernels, in the emulator, against autograd in float64."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fastnst.engines.strips.engine import StripEngine
from fastnst.engines.strips.planned import KernelEvaluator
from fastnst.engines.torch_engine import TorchEngine
from fastnst.network.weights import Weights
from fastnst.strips.geometry import Grid
from helpers.cuda_emulator.library import NEEDED, Emulator, in_place_of_a_gpu, shared_library
from helpers.strips import errors, objective, spacing_of

pytestmark = NEEDED
QUICK = ("gram", "max", "replicate")
SLOW = ("l2", "poolings and preactivations", "regions", "color")
EMULATED = (*QUICK, *(pytest.param(control, marks=pytest.mark.slow) for control in SLOW))


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    compiled = shared_library()
    with in_place_of_a_gpu(compiled), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield compiled


@pytest.mark.parametrize("control", EMULATED)
def test_pieces_by_our_kernels_equal_float64(
    emulator: Emulator, random_weights: Weights, control: str
) -> None:
    """In the emulator. Float32: as near as the plan of a whole picture is."""
    it, image = objective(random_weights, 67, 19, control, torch.float32)
    exact, double = objective(random_weights, 67, 19, control, torch.float64)
    grid = Grid.cut(67, 19, spacing_of(it), 32)
    assert len(grid) == 2
    emulator.launched()
    found = StripEngine(KernelEvaluator(it), grid).evaluate(image)
    ours = set(emulator.launched())
    assert {"image_features", "layer_gradient"} <= ours
    assert ("image_gradient" in ours) == (control != "replicate")
    loss, gradient = errors(found, TorchEngine(exact).evaluate(double))
    assert loss <= 1e-5
    assert gradient <= 2e-4


@pytest.mark.slow
def test_pieces_in_bfloat16_are_near_float64(emulator: Emulator, random_weights: Weights) -> None:
    """As near as a picture in one piece is: some layers of 1 % error each."""
    del emulator
    it, image = objective(random_weights, 67, 19, "gram", torch.float32)
    exact, double = objective(random_weights, 67, 19, "gram", torch.float64)
    grid = Grid.cut(67, 19, spacing_of(it), 32)
    found = StripEngine(KernelEvaluator(it, "bf16"), grid).evaluate(image)
    expected = TorchEngine(exact).evaluate(double)
    assert float(found.terms.total) == pytest.approx(float(expected.terms.total), rel=2e-2)
    x, y = found.gradient.double().flatten(), expected.gradient.flatten()
    assert float(torch.nn.functional.cosine_similarity(x, y, dim=0)) >= 0.99


def test_kept_features_change_no_bit(emulator: Emulator, random_weights: Weights) -> None:
    del emulator
    it, image = objective(random_weights, 67, 19, "max", torch.float32)
    grid = Grid.cut(67, 19, spacing_of(it), 32)
    gone, kept = (StripEngine(KernelEvaluator(it), grid, keep=keep) for keep in (False, True))
    expected = gone.evaluate(image).gradient.clone()
    assert torch.equal(kept.evaluate(image).gradient, expected)
