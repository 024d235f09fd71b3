"""Stages of ``gpu_check.py``: iterations, recorded and replayed, and whole runs of them."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest import mock

import gpu_model
import torch
from gpu_check import Case, Point
from gpu_machine import Where, pictures
from torch import Tensor

from fastnst.engines.create import create_engine
from fastnst.network.weights import load_weights
from fastnst.objective.regions import Region
from fastnst.settings.settings import Settings
from fastnst.solvers.device import lbfgs
from fastnst.solvers.device import steps as device_steps
from fastnst.solvers.device.cuda_graph import WARM_UP
from fastnst.solvers.device.lbfgs import DeviceLBFGS
from fastnst.solvers.device.loop import BATCH, minimise_on_device

LAUNCHES = 110  # nodes of a recorded iteration, at most
CONTROLS: dict[str, dict[str, Any]] = {
    "default": {},
    "tv": {"tv_weight": 1.0},
    "tv nine-point": {"tv_weight": 1.0, "tv_form": "nine-point"},
    "tv absolute-sum": {"tv_weight": 1e-3, "tv_form": "absolute-sum"},
    "gradient norm l1": {"gradient_norm": "l1"},
    "covariance and means": {"statistics": ("covariance", "mean-std")},
    "max pooling": {"pooling": "max"},
    "l2 pooling": {"pooling": "l2"},
    "replicate": {"padding": "replicate"},
    "preset fast": {"optimizer": "spectral"},
}


def graph(at: Where) -> Iterator[Case]:
    """Replay is eager, bit for bit; and how many kernels an iteration launches."""
    size = 24 if at.dry else 96
    for name, control in CONTROLS.items():
        for precision in ("fp32",) if at.dry else ("fp32", "bf16"):
            yield Case(
                f"{name} {precision}",
                partial(_replayed, at, {**control, "precision": precision}, size),
            )
    for precision in ("fp32",) if at.dry else ("fp32", "bf16"):
        yield Case(
            f"two regions {precision}",
            partial(_replayed, at, {"precision": precision}, size, regions=True),
        )
        yield Case(f"the recording {precision}", partial(_recorded, at, precision))
    if not at.dry:
        yield Case("default at 512 px", lambda: _replayed(at, {"precision": "bf16"}, 512))


def _replayed(at: Where, control: dict[str, Any], size: int, *, regions: bool = False) -> Point:
    layers_ = {"style_layers": ("relu1_1", "relu2_1"), "content_layers": ("relu2_2",)}
    settings = Settings(**({**layers_, **control} if at.dry else control))
    content, style, image = pictures(at, size)
    halves = None
    if regions:
        left = torch.zeros(content.shape[-2:], device=at.device)
        left[:, : left.shape[1] // 2] = 1
        halves = [Region({0: None}, left, "the left"), Region({0: None}, 1 - left, "the right")]
    runs: list[list[Tensor]] = []
    for record in (False, True):
        engine = create_engine(load_weights(), content, style, settings, halves)
        iterates = minimise_on_device(
            engine.evaluate,
            image,
            iterations=4 if at.dry else 20,
            history_size=3 if at.dry else 6,
            optimizer=settings.optimizer,
            record=record,
        )
        runs.append(
            [torch.cat([i.image.flatten(), i.image.new_tensor([i.loss])]) for i in iterates]
        )
    equal = [torch.equal(a, b) for a, b in zip(*runs, strict=True)]
    wrong = equal.index(False) if False in equal else None
    text = f"{len(equal)} iterates" if wrong is None else f"differs from iterate {wrong} on"
    return Point(wrong is None, text)


def _recorded(at: Where, precision: str) -> Point:
    """How many nodes a recorded iteration has, beside the model, and what the recording takes."""
    model = gpu_model.iteration(512, precision)
    content, style, image = pictures(at, 24 if at.dry else 512)
    engine = create_engine(load_weights(), content, style, Settings(precision=precision))
    solver = DeviceLBFGS(image, engine.launch, 3 if at.dry else 100)
    solver.begin()
    if at.dry:
        solver.advance()
        return Point(True, f"nothing is recorded here; the model has {model.launches} launches")
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            solver.advance()
    began = time.monotonic()
    with torch.cuda.graph(graph, stream=stream):
        solver.advance()
    recorded = time.monotonic()
    graph.instantiate()
    made = time.monotonic()
    count = ctypes.c_size_t()
    handle = ctypes.c_void_p(graph.raw_cuda_graph())
    ctypes.CDLL("libcuda.so.1").cuGraphGetNodes(handle, None, ctypes.byref(count))
    figures = {
        "nodes": count.value,
        "model": model.launches,
        "recording": recorded - began,
        "instantiation": made - recorded,
        "replay": at.time(graph.replay, 100, recorded=False),
        "model replay": model.seconds(gpu_model.H100),
    }
    text = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
    return Point(0 < count.value < LAUNCHES, text, figures)


def course(at: Where) -> Iterator[Case]:
    """500 evaluations by L-BFGS: where the seconds go, and the loss that each arithmetic finds."""
    for precision in ("fp32",) if at.dry else ("strict", "tf32", "bf16"):
        for pairs in ("eight bits", "float32"):
            yield Case(f"{precision}, pairs in {pairs}", partial(_course, at, precision, pairs))


def _course(at: Where, precision: str, pairs: str) -> Point:
    size, evaluations = (24, 6) if at.dry else (512, 500)
    settings = Settings(precision="bf16" if precision == "bf16" else "fp32")
    content, style, image = pictures(at, size)
    own = (
        mock.patch.object(lbfgs, "choose", device_steps.TorchSteps) if pairs == "float32" else None
    )
    with (
        torch.backends.cudnn.flags(enabled=True, allow_tf32=precision == "tf32"),
        own or contextlib.nullcontext(),
    ):
        engine = create_engine(load_weights(), content, style, settings)
        at.wait()
        marks = [time.monotonic()]
        losses: list[float] = []
        for iterate in minimise_on_device(engine.launch, image, iterations=evaluations - 1):
            losses.append(iterate.loss)
            marks.append(time.monotonic())
        at.wait()
    spans = {
        "begin": marks[1] - marks[0],
        "warm-up and recording": marks[min(2 * BATCH + 1, evaluations)] - marks[1],
        "replays": marks[-1] - marks[min(2 * BATCH + 1, evaluations)],
        "whole": marks[-1] - marks[0],
    }
    text = ", ".join(f"{key} {seconds:.3f} s" for key, seconds in spans.items())
    figures = {**spans, "losses": losses[:: max(1, evaluations // 50)], "loss": losses[-1]}
    return Point(losses[-1] < losses[0] / 2, f"loss {losses[-1]:.5g}; {text}", figures)


def profile(at: Where) -> Iterator[Case]:
    """The kernels of an iteration beside the model of it."""
    for precision in ("fp32",) if at.dry else ("fp32", "bf16"):
        yield Case(f"one iteration {precision}", partial(_profiled, at, precision))


def _profiled(at: Where, precision: str) -> Point:
    from torch.profiler import ProfilerActivity

    size = 40 if at.dry else 512
    content, style, image = pictures(at, size)
    engine = create_engine(load_weights(), content, style, Settings(precision=precision))
    iterates = minimise_on_device(engine.evaluate, image, iterations=12 if at.dry else 60)
    for _ in range(6):
        next(iterates)
    kinds = [ProfilerActivity.CPU] + ([] if at.dry else [ProfilerActivity.CUDA])
    with torch.profiler.profile(activities=kinds) as profiler:
        steps = sum(1 for _ in iterates)
        at.wait()
    events = profiler.key_averages()
    # an operator's time on the device is that of its kernels, which have rows of their own
    table = [
        {
            "name": event.key[:120],
            "count": event.count / steps,
            "microseconds": getattr(event, "self_device_time_total", 0) / steps,
        }
        for event in events
        if at.dry or event.device_type.name == "CUDA"
    ]
    launched = sum(row["count"] for row in table)
    total = sum(row["microseconds"] for row in table)
    model = gpu_model.iteration(512, precision)
    text = (
        f"{launched:.0f} kernels and {total:.0f} µs an iteration; the model has "
        f"{model.launches} and {1e6 * model.seconds(gpu_model.H100):.0f}"
    )
    # twice the model's launches: one of ours has been replaced by operators
    holds = bool(table) and (at.dry or launched <= 2 * model.launches)
    return Point(holds, text, {"table": table, "launches": launched, "microseconds": total})
