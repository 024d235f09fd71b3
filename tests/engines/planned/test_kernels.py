"""The plan with our kernels, in the emulator, against autograd in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from fastnst.engines import create
from fastnst.engines.planned.cuda import PlannedEngine
from fastnst.engines.planned.kernels import KernelEngine
from fastnst.engines.torch_engine import TorchEngine
from fastnst.network.weights import Weights
from fastnst.objective.build import build_objective
from fastnst.settings.settings import Settings
from helpers.cuda_emulator.library import NEEDED, Emulator, in_place_of_a_gpu, shared_library
from helpers.engines import SETTINGS, compare, pictures

pytestmark = NEEDED

CONTROLS = [
    {"pooling": "max"},
    {"pooling": "l2", "padding": "replicate", "tv_weight": 3.0},
    {"padding": "replicate"},
    {"statistics": ("covariance", "mean-std")},
    {"gradient_norm": "l1"},
]


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    compiled = shared_library()
    # PyTorch's flag allows TF32 unless told otherwise, and the emulated tensor cores round to it
    with in_place_of_a_gpu(compiled), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield compiled


def compared(weights: Weights, settings: Settings, precision: str = "fp32") -> None:
    content, style, image = pictures(19, 22)
    planned = KernelEngine(build_objective(weights, content, style, settings, "torch"), precision)
    truth = TorchEngine(
        build_objective(weights, content.double(), style.double(), settings, "torch")
    )
    expected = truth.evaluate(image.double())
    got = planned.evaluate(image)
    parts = (got.terms.total, *got.terms.content.values(), *got.terms.style.values(), got.terms.tv)
    assert got.terms.row is not None
    assert torch.equal(got.terms.row, torch.stack(parts))
    if precision == "fp32":
        compare(got, expected)
        return
    # as for the plan in PyTorch's operators: some layers of 1 % error each, averaged by the sums
    assert float(got.terms.total) == pytest.approx(float(expected.terms.total), rel=2e-2)
    x, y = got.gradient.double().flatten(), expected.gradient.flatten()
    assert float(torch.nn.functional.cosine_similarity(x, y, dim=0)) >= 0.99


@pytest.mark.parametrize("settings", SETTINGS)
def test_equals_float64(emulator: Emulator, random_weights: Weights, settings: Settings) -> None:
    emulator.launched()
    compared(random_weights, settings)
    ours = emulator.launched()
    assert {"image_features", "image_gradient", "weigh_losses"} <= set(ours)
    assert ("gram_gradient" in ours) == bool(settings.style_weight)


@pytest.mark.parametrize("control", CONTROLS, ids=str)
def test_every_control_equals_float64(
    emulator: Emulator, random_weights: Weights, control: dict
) -> None:
    del emulator
    compared(random_weights, replace(SETTINGS[5], **control))


def test_bfloat16_is_near_float64(emulator: Emulator, random_weights: Weights) -> None:
    del emulator
    compared(random_weights, SETTINGS[0], "bf16")


def test_tf32_where_the_convolutions_may_have_it(
    emulator: Emulator, random_weights: Weights
) -> None:
    del emulator
    content, style, image = pictures(19, 22)
    objective = build_objective(random_weights, content, style, SETTINGS[0], "torch")
    exact, rounded = KernelEngine(objective), KernelEngine(objective)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        found = rounded.evaluate(image).terms.total
    expected = exact.evaluate(image).terms.total
    assert found != expected
    # Gram matrices are of two factors that are rounded at 2⁻¹¹, and the losses of their squares
    assert float(found) == pytest.approx(float(expected), rel=4e-3)


def test_two_evaluations_have_the_same_bits(emulator: Emulator, random_weights: Weights) -> None:
    del emulator
    content, style, image = pictures(19, 22)
    objective = build_objective(random_weights, content, style, SETTINGS[0], "torch")
    engine = KernelEngine(objective)
    first = engine.evaluate(image).gradient.clone()
    engine.evaluate(image.flip(3))
    assert torch.equal(engine.evaluate(image).gradient, first)


def test_the_kernels_are_chosen_where_they_run(
    emulator: Emulator, random_weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    del emulator
    content, style, _ = pictures(19, 22)
    objective = build_objective(random_weights, content, style, SETTINGS[0], "torch")
    assert create.gpu_plan(objective) is KernelEngine
    monkeypatch.setattr(create.device_kernels, "unavailable_reason", lambda device: "not here")
    assert create.gpu_plan(objective) is PlannedEngine
    monkeypatch.undo()
    wide = build_objective(random_weights, content.double(), style.double(), SETTINGS[0], "torch")
    assert create.gpu_plan(wide) is PlannedEngine
