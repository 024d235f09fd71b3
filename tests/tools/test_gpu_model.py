"""The model of an iteration, held to what an iteration launches."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from fastnst.engines.planned.kernels import KernelEngine
from fastnst.network.weights import load_weights
from fastnst.objective.build import build_objective
from fastnst.settings.settings import Settings
from fastnst.solvers.device.lbfgs import DeviceLBFGS
from helpers.cuda_emulator.library import COMPILER, CSRC, in_place_of_a_gpu, shared_library
from helpers.engines import pictures
from helpers.tools import load_tool

# Operators that launch nothing, and ReLU, which on a GPU is part of the convolution before it.
FREE = {
    *("empty", "empty_strided", "empty_like", "new_empty", "view", "_unsafe_view", "as_strided"),
    *("unbind", "select", "slice", "permute", "transpose", "t", "detach", "alias", "expand"),
    *("unsqueeze", "lift_fresh", "resize_", "new_empty_strided", "relu_"),
}
OPERATORS = {"new_zeros": "fill", "zero_": "fill", "fill_": "fill", "zeros": "fill"}


class Launches(TorchDispatchMode):
    """Counts PyTorch's operators by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        name = function._schema.name.removeprefix("aten::")
        if name not in FREE:
            self.counts[OPERATORS.get(name, name)] += 1
        return function(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def model() -> Any:
    return load_tool("gpu_model")


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs the emulator")
@pytest.mark.skipif(not CSRC.is_dir(), reason="not in a checkout")
def test_the_model_lists_every_launch(model: Any) -> None:
    """A kernel or operator that is new, or one that is called once more, is not in the model."""
    emulator = shared_library()
    content, style, image = pictures(20, 18)
    with in_place_of_a_gpu(emulator):
        objective = build_objective(load_weights(), content, style, Settings(), "torch")
        engine = KernelEngine(objective)
        solver = DeviceLBFGS(image, engine.evaluate, 3)
        solver.begin()
        solver.advance()
        emulator.launched()
        with Launches() as operators:
            solver.advance()
        found = emulator.launched() | dict(operators.counts)
    assert found == model.iteration(64, "fp32", 3).kernels()


def test_fewer_nodes_and_bytes_than_before(model: Any) -> None:
    for precision in ("bf16", "fp32"):
        before, now = (f(512, precision) for f in (model.before, model.iteration))
        assert now.launches < 110 < before.launches
        assert now.bytes < 0.7 * before.bytes
        assert now.seconds(model.H100) < before.seconds(model.H100)


def test_a_step_takes_the_longest_of_its_limits(model: Any) -> None:
    ceilings = model.Ceilings(1e12, {"fp32": 1e13})
    for step, seconds in (
        (model.Step("", "", 1e9), 1e-3),
        (model.Step("", "", 1e9, 2e10), 2e-3),
        (model.Step("", "", 1.0, launches=3), 3 * model.LAUNCH),
    ):
        assert step.seconds(ceilings) == pytest.approx(seconds)


def test_the_kernels_of_the_model_are_those_of_the_sources(model: Any) -> None:
    text = "".join(path.read_text() for path in (Path(CSRC) / "cuda").glob("*.cu"))
    for name in model.iteration().kernels():
        if name not in ("convolution", "fill"):
            assert f'"{name}"' in text, name
