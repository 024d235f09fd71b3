"""What a run will take in memory and time, from a short trial of the same size."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fastnst.images.decode import Picture
from fastnst.inputs.pictures import Styles
from fastnst.run import memory
from fastnst.run.prepare import prepare
from fastnst.settings.settings import Settings

EVALUATIONS = 3  # in the trial, after one that warms up; the quickest counts
ROWS = 4  # of the trial's history of L-BFGS
PASSES = 4  # over the curvature pairs in an iteration: s and y, each read twice


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        width: Width of the result in pixels.
        height: Height of the result in pixels.
        bytes: Memory at the peak, beside what the process has already.
        free_bytes: Memory that is free now; None if the system does not say.
        seconds: How long the optimisation will take.
        engine: The engine that will run: ``torch``, ``native`` or ``onnx``.
        device: The device that it will run on: ``cpu``, ``cuda``, …
        precision: The precision of its features: ``fp32``, ``bf16`` or ``mixed``.
        pieces: Strips or tiles that the picture is computed in; 1: it is computed whole.
    """

    width: int
    height: int
    bytes: int
    free_bytes: int | None
    seconds: float
    engine: str
    device: str
    precision: str = "fp32"
    pieces: int = 1


def estimate(
    content: Picture,
    style: Styles,
    settings: Settings,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
    memory_limit: int | None = None,
) -> Estimate:
    """Measure a few evaluations of a run's objective and a few rows of its solver's history.

    Args:
        content: Anything that ``load_image`` takes.
        style: Anything that ``load_image`` takes, or a list of such.
        settings: The settings of the run.
        content_mask: As for ``stylize``.
        style_masks: As for ``stylize``.
        memory_limit: Bytes that the run may take; None: what is free.

    Raises:
        InvalidInput: for a picture or setting that cannot be used, or a size that does not fit in
            memory, with one that does.
        BackendUnavailable: if an engine or device asked for by name cannot run.
    """
    prepared = prepare(
        content, style, settings, content_mask, style_masks, memory_limit=memory_limit
    )
    device, schedule = prepared.device, prepared.schedule
    width, height = prepared.width, prepared.height
    with memory.enough(width, height, settings, device):
        pictures = prepared.pictures(schedule[-1])
        grid = prepared.grid(pictures)
        engine = prepared.engine(pictures, grid=grid)  # a mixed run begins in bf16
        image = pictures.start
        evaluation = _quickest(lambda: float(engine.evaluate(image).terms.total))
        history = torch.rand(ROWS, image.numel(), dtype=torch.float32, device=device)
        row = _quickest(lambda: float(torch.mv(history, history[0])[0])) / ROWS
    seconds = 0.0
    for scale in schedule:
        area = (scale.size / schedule[-1].size) ** 2 if schedule[-1].size else 1.0
        pairs = sum(min(k, settings.history_size) for k in range(scale.iterations))
        seconds += area * ((scale.iterations + 1) * evaluation + PASSES * pairs * row)
    return Estimate(
        width,
        height,
        memory.estimate(width, height, settings, prepared.style_pixels, device, grid),
        memory.available(device),
        seconds,
        engine.name,
        str(device),
        engine.precision,
        1 if grid is None else len(grid),
    )


def _quickest(work: Callable[[], float]) -> float:
    """The least seconds that ``work`` takes; it fetches a number, so that a GPU has finished."""
    work()
    seconds = []
    for _ in range(EVALUATIONS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
