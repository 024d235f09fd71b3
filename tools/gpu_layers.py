"""Stages of ``gpu_check.py``: the network layer by layer, and the ways to compute a convolution."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from gpu_check import Case, Point
from gpu_machine import ERRORS, Where, last, near, pictures, random
from torch import Tensor
from torch.nn import functional

from fastnst.engines.create import create_engine
from fastnst.engines.planned import cudnn
from fastnst.engines.torch_engine import TorchEngine
from fastnst.network.weights import load_weights
from fastnst.objective.build import build_objective
from fastnst.settings.settings import Settings


def layers(at: Where) -> Iterator[Case]:
    """Losses and gradient of the whole network against float64, and features layer by layer."""
    size = 40 if at.dry else 160
    precisions = ("fp32",) if at.dry else ("fp32", "tf32", "bf16")

    def compared(precision: str) -> Point:
        settings = Settings(precision="bf16" if precision == "bf16" else "fp32")
        weights = load_weights()
        content, style, image = pictures(at, size)
        exact, painting = content.cpu().double(), style.cpu().double()
        truth = TorchEngine(build_objective(weights, exact, painting, settings, "torch"))
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=precision == "tf32"):
            engine = create_engine(weights, content, style, settings)
            evaluation = engine.evaluate(image)
            at.wait()
        expected = truth.evaluate(image.cpu().double())
        errors: dict[str, float] = {}
        for kind in ("content", "style"):
            ours, theirs = getattr(evaluation.terms, kind), getattr(expected.terms, kind)
            for key in theirs:
                off = abs(float(ours[key]) - float(theirs[key])) / float(theirs[key])
                errors[f"{kind} {key}"] = off
        gradient = near(evaluation.gradient.cpu(), expected.gradient, 10 * ERRORS[precision])
        worst = max(errors, key=lambda key: errors[key])
        holds = errors[worst] <= 4 * ERRORS[precision] and bool(gradient.holds)
        text = f"worst loss {worst} {errors[worst]:.1e}; gradient {gradient.found}"
        return Point(holds, text, {**errors, **gradient.figures})

    def by_layer(precision: str) -> Point:
        """Where an error comes in: each layer's features, from the features before in float64."""
        weights = load_weights()
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        x = random(at, 1, 3, size, size)
        errors: dict[str, float] = {}
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=precision == "tf32"):
            for name, tensor in weights.tensors.items():
                if not name.endswith(".weight") or name == "conv1_1.weight":
                    continue
                weight = tensor.to(at.device)
                bias = weights.tensors[name.replace("weight", "bias")].to(at.device)
                filters = cudnn.arrange_filters(weight, bias, dtype)
                channels = weight.shape[1]
                x = last(random(at, 1, channels, 24, 19, dtype=dtype))
                y = cudnn.convolve_relu(x, filters)
                at.wait()
                exact, shift = filters.forward.double(), filters.bias.double()
                truth = functional.conv2d(x.double(), exact, shift, padding=1).relu()
                errors[name] = near(y, truth, 1.0).figures["error"]
        worst = max(errors, key=lambda key: errors[key])
        text = f"worst {worst}: {errors[worst]:.1e}, at most {ERRORS[precision]:.0e}"
        return Point(errors[worst] <= ERRORS[precision], text, errors)

    for precision in precisions:
        yield Case(f"features layer by layer, {precision}", partial(by_layer, precision))
        yield Case(f"losses and gradient, {precision}", partial(compared, precision))


def plans(at: Where) -> Iterator[Case]:
    """Every convolution of VGG-19 to relu5_1, both directions, by every way there is."""
    weights = load_weights()
    side = 24 if at.dry else 512
    block = 0
    for name in (n for n in weights.tensors if n.endswith(".weight")):
        number = int(re.findall(r"conv(\d)_", name)[0])
        if number != block and block:
            side //= 2
        block = number
        if name.startswith("conv5") and name != "conv5_1.weight":
            continue
        for dtype in (torch.float32, torch.bfloat16):
            kind = str(dtype).removeprefix("torch.")
            yield Case(
                f"{name.removesuffix('.weight')} {side} {kind}",
                partial(_ways, at, weights.tensors[name], side, dtype),
            )


def _ways(at: Where, tensor: Tensor, side: int, dtype: torch.dtype) -> Point:
    """Times and errors of the ways to compute a convolution, into memory full of NaN."""
    weight = tensor.to(at.device)
    filters = cudnn.arrange_filters(weight, random(at, weight.shape[0]), dtype)
    error = 2e-2 if dtype == torch.bfloat16 else 5e-3
    image = last(random(at, 1, weight.shape[1], side, side, dtype=dtype))
    above = last(random(at, 1, weight.shape[0], side, side, dtype=dtype))
    weights, bias = filters.forward.double(), filters.bias.double()
    forward = functional.conv2d(image.double(), weights, bias, padding=1).relu()
    backward = functional.conv2d(above.double(), filters.backward.double(), padding=1)
    ways: dict[str, tuple[Tensor, Callable[[], Tensor]]] = {
        "forward": (
            forward,
            lambda: cudnn.convolve(image, filters.forward, filters.bias).relu_(),
        ),
        "backward": (backward, lambda: cudnn.convolve(above, filters.backward)),
    }
    if not at.dry:
        ways["forward fused"] = (forward, lambda: cudnn.fused(image, filters, 1))
    figures: dict[str, Any] = {}
    for name, (truth, work) in ways.items():
        for benchmark in (False, True):
            key = f"{name} benchmark" if benchmark else name
            with torch.backends.cudnn.flags(enabled=True, benchmark=benchmark, allow_tf32=True):
                try:
                    _poison(at, truth.numel() * image.element_size())
                    point = near(work(), truth, error)
                    figures[key] = {"seconds": at.time(work), "holds": point.holds}
                    figures[key] |= point.figures
                except RuntimeError as reason:
                    figures[key] = {"reason": str(reason).splitlines()[0][:200]}
    # a way may be wrong or missing, but the one that the engine takes may not
    _poison(at, forward.numel() * image.element_size())
    taken = near(cudnn.convolve_relu(image, filters), forward, error)
    plain = all(figures[name].get("holds") for name in ("forward", "backward"))
    times = {k: round(1e6 * v["seconds"], 1) for k, v in figures.items() if "seconds" in v}
    return Point(bool(taken.holds and plain), f"taken: {taken.found}; µs {times}", figures)


def _poison(at: Where, size: int) -> None:
    """Leave NaN in the memory that torch hands out next."""
    junk = [torch.full((max(size // 4, 1),), torch.nan, device=at.device) for _ in range(3)]
    at.wait()
    del junk
