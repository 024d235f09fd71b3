"""Engines: the ways of computing the objective and its gradient.

``torch``   plain PyTorch and autograd, everywhere;
``native``  a planned evaluation: on a CPU with compiled Winograd convolutions, Gram matrices and style
            losses, on a GPU with cuDNN's convolutions and, where they are built, the CUDA kernels;
``onnx``    one graph for the loss and its gradient, run by ONNX Runtime or OpenVINO.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastnst.cache import Cache
from fastnst.engines.mixed_engine import MixedEngine
from fastnst.engines.onnx import providers
from fastnst.engines.onnx.engine import OnnxEngine
from fastnst.engines.planned import cpu, cuda
from fastnst.engines.planned.cpu import NativeEngine
from fastnst.engines.planned.cuda import PlannedEngine
from fastnst.engines.torch_engine import TorchEngine
from fastnst.errors import BackendUnavailable
from fastnst.evaluation import Engine
from fastnst.network.weights import Weights
from fastnst.objective.build import build_objective
from fastnst.objective.regions import Region
from fastnst.ops import extension
from fastnst.settings.settings import Settings


def unavailable_reason(engine: str, device: torch.device) -> str | None:
    """Why an engine cannot run on a device, in a few words, or None if it can."""
    if engine == "torch":
        return None
    if engine == "onnx":
        return providers.unavailable_reason("cuda" if device.type == "cuda" else "cpu", device)
    if device.type == "cpu" and not extension.is_available():
        return extension.unavailable_reason() or "the compiled extension is missing"
    return None


def create_engine(
    weights: Weights,
    content: Tensor,
    style: Tensor | Sequence[Tensor],
    settings: Settings,
    regions: Sequence[Region] | None = None,
    kept: Cache | None = None,
) -> Engine:
    """Set up the engine that the settings ask for.

    Args:
        weights: What ``load_weights`` returns.
        content: ``(1, 3, H, W)``, RGB in [0, 1], on the device where the engine is to run.
        style: ``(1, 3, h, w)``, likewise; or several.
        settings: ``engine`` is ``torch``, ``native`` or ``auto``: native where it runs.
            ``precision`` ``auto`` is fp32 here: an engine with one precision is a function of the
            picture. ``mixed`` is not: what it computes with depends on the evaluations before.
        regions: Which style goes where; None: all of them everywhere.
        kept: The networks and targets of earlier engines, to be used again where they fit.

    Raises:
        BackendUnavailable: if the engine that was asked for by name cannot run here.
        InvalidInput: for settings or pictures that do not fit together.
    """
    name = settings.engine
    if name == "onnx":
        return _onnx_engine(weights, content, style, settings, regions, kept)
    reason = unavailable_reason("native", content.device)
    if name == "auto":
        name = "torch" if reason else "native"
    elif name == "native" and reason:
        raise BackendUnavailable(f"engine native cannot run: {reason}")
    on_cpu = content.device.type == "cpu"
    backend = "native" if name == "native" and on_cpu else "torch"
    objective = build_objective(weights, content, style, settings, backend, regions, kept)
    precision = "fp32" if settings.precision == "auto" else settings.precision
    if not objective.layers:  # the total variation alone: no network, no plan
        return TorchEngine(objective, "fp32", name)
    if name == "native":
        lowest = "bf16" if precision == "mixed" else precision
        plan = cpu if on_cpu else cuda
        if reason := plan.cannot_run(objective, lowest):
            raise BackendUnavailable(f"engine native cannot run: {reason}")

    def create(precision: str) -> Engine:
        if name == "native" and on_cpu:
            return NativeEngine(objective, precision, kept=kept)
        if name == "native":
            return PlannedEngine(objective, precision, kept=kept)
        return TorchEngine(objective, precision)

    return MixedEngine(create) if precision == "mixed" else create(precision)


def choose_precision(settings: Settings, device: torch.device) -> str:
    """The precision of a run whose settings leave it open: ``mixed`` where bf16 is quicker.

    That is the native engine on a processor with avx512bf16; anywhere else it is fp32.
    """
    if settings.precision != "auto":
        return settings.precision
    on_cpu = settings.engine in ("auto", "native") and device.type == "cpu"
    compiled = on_cpu and not unavailable_reason("native", device)
    return "mixed" if compiled and extension.convolves_bfloat16() else "fp32"


def _onnx_engine(
    weights: Weights,
    content: Tensor,
    style: Tensor | Sequence[Tensor],
    settings: Settings,
    regions: Sequence[Region] | None,
    kept: Cache | None,
) -> Engine:
    if settings.precision == "mixed":
        raise BackendUnavailable("engine onnx does not change its precision: choose fp32 or bf16")
    # asked before the targets are computed, so that a missing package is said at once
    providers.choose(settings.provider, content.device, settings.precision)
    objective = build_objective(weights, content, style, settings, "torch", regions, kept)

    from fastnst.onnx_graph import why_not  # needs the package onnx

    if reason := why_not(objective):
        raise BackendUnavailable(f"engine onnx does not take this objective: {reason}")
    height, width = content.shape[-2:]
    return OnnxEngine(objective, (height, width), settings.provider, settings.precision)
