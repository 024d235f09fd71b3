"""The stages of ``gpu_check.py``, in the order in which they are of use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import gpu_commands
import gpu_iterations
import gpu_kernels
import gpu_layers
import torch
from gpu_check import Case, Point
from gpu_machine import Where, near, pictures

from fastnst.engines.create import create_engine
from fastnst.engines.torch_engine import TorchEngine
from fastnst.network.weights import load_weights
from fastnst.objective.build import build_objective
from fastnst.settings.settings import Settings


def onnx(at: Where) -> Iterator[Case]:
    """ONNX Runtime's providers for a GPU: one evaluation against PyTorch's, with bound memory."""
    for provider in ("cpu",) if at.dry else ("cuda", "tensorrt"):
        yield Case(provider, partial(_provider, at, provider))


def _provider(at: Where, provider: str) -> Point:
    from fastnst.engines.onnx import providers

    if reason := providers.unavailable_reason(provider, at.device):
        return Point(None, f"it cannot run here: {reason}")
    settings = Settings(engine="onnx", provider=provider, precision="fp32")
    content, style, image = pictures(at, 40 if at.dry else 128)
    weights = load_weights()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        engine = create_engine(weights, content, style, settings)
        got = engine.evaluate(image)
        expected = TorchEngine(
            build_objective(weights, content, style, settings, "torch")
        ).evaluate(image)
        at.wait()
    seconds = at.time(lambda: engine.evaluate(image), 5, recorded=False)
    point = near(got.gradient, expected.gradient.double(), 1e-3, seconds=seconds)
    return Point(point.holds, f"gradient {point.found}; {1e3 * seconds:.2f} ms", point.figures)


STAGES: dict[str, Callable[[Where], Iterator[Case]]] = {
    "build": gpu_kernels.build,
    "smoke": gpu_kernels.smoke,
    "kernels": gpu_kernels.alone,
    "layers": gpu_layers.layers,
    "plans": gpu_layers.plans,
    "graph": gpu_iterations.graph,
    "profile": gpu_iterations.profile,
    "course": gpu_iterations.course,
    "sanitize": gpu_commands.sanitize,
    "nsight": gpu_commands.nsight,
    "onnx": onnx,
    "tests": gpu_commands.tests,
    "bench": gpu_commands.bench,
}
