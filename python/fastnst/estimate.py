"""What a run will take in memory and time, from a short trial of the same size."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fastnst import memory
from fastnst.devices import DEFAULT_SIZE, choose_device
from fastnst.engines import create_engine
from fastnst.images import Picture
from fastnst.pictures import load_pictures
from fastnst.settings import Settings
from fastnst.weights import load_weights

EVALUATIONS = 3  # in the trial, after one that warms up; the quickest counts
ROWS = 4  # of the trial's history of L-BFGS
PASSES = 4  # over the curvature pairs in an iteration: s and y, each read twice


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        width: Of the result, in pixels.
        height: Likewise.
        bytes: Of memory at the peak, beside what the process has already.
        free_bytes: What is free now; None if the system does not say.
        seconds: Of the optimisation.
        engine: Which will run.
        device: Where.
    """

    width: int
    height: int
    bytes: int
    free_bytes: int | None
    seconds: float
    engine: str
    device: str


def estimate(content: Picture, style: Picture, settings: Settings) -> Estimate:
    """Measure a few evaluations of a run's objective and a few rows of its solver's history.

    Args:
        content: Anything that ``load_image`` takes.
        style: Likewise.
        settings: Of the run.

    Raises:
        InvalidInput: for a picture or setting that cannot be used, or a size that does not fit in
            memory, with one that does.
        BackendUnavailable: if an engine or device asked for by name cannot run.
    """
    device = choose_device(settings.device)
    size = DEFAULT_SIZE[device.type] if settings.size is None else settings.size
    pictures = load_pictures(content, style, settings, size, device)
    weights = load_weights(settings.weights, settings.preprocessing)
    engine = create_engine(
        weights, pictures.content.to(device), pictures.style.to(device), settings
    )
    image = pictures.start.to(device)
    height, width = image.shape[-2:]
    evaluation = _quickest(lambda: float(engine.evaluate(image).terms.total))
    history = torch.rand(ROWS, image.numel(), device=device)
    row = _quickest(lambda: float(torch.mv(history, history[0])[0])) / ROWS
    pairs = sum(min(k, settings.history_size) for k in range(settings.iterations))
    seconds = (settings.iterations + 1) * evaluation + PASSES * pairs * row
    return Estimate(
        width,
        height,
        memory.estimate(width, height, settings),
        memory.available(device),
        seconds,
        engine.name,
        str(device),
    )


def _quickest(work: Callable[[], float]) -> float:
    """Seconds; ``work`` fetches a number, so that a GPU has finished."""
    work()
    seconds = []
    for _ in range(EVALUATIONS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
