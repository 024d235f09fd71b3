"""What a run will take in memory and time, from a short trial of the same size."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fastnst.devices import DEFAULT_SIZE, choose_device
from fastnst.engines.create import create_engine
from fastnst.images.decode import Picture
from fastnst.inputs.pictures import Styles, decode, scale_pictures
from fastnst.network.weights import load_weights
from fastnst.run import memory
from fastnst.run.schedule import make_schedule
from fastnst.settings.settings import Settings

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


def estimate(
    content: Picture,
    style: Styles,
    settings: Settings,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
) -> Estimate:
    """Measure a few evaluations of a run's objective and a few rows of its solver's history.

    Args:
        content: Anything that ``load_image`` takes.
        style: Likewise; or a list of such.
        settings: Of the run.
        content_mask: As for ``stylize``.
        style_masks: As for ``stylize``.

    Raises:
        InvalidInput: for a picture or setting that cannot be used, or a size that does not fit in
            memory, with one that does.
        BackendUnavailable: if an engine or device asked for by name cannot run.
    """
    device = choose_device(settings.device)
    size = DEFAULT_SIZE[device.type] if settings.size is None else settings.size
    sources = decode(content, style, content_mask, style_masks)
    schedule = make_schedule(settings, size, max(sources.content.shape[:2]))
    pictures = scale_pictures(sources, settings, schedule[-1].size, device)
    weights = load_weights(settings.weights, settings.preprocessing)
    regions = None if pictures.regions is None else [r.to(device) for r in pictures.regions]
    height, width = pictures.start.shape[-2:]
    with memory.enough(width, height, settings, device):
        engine = create_engine(
            weights,
            pictures.content.to(device),
            [style.to(device) for style in pictures.styles],
            settings,
            regions,
        )
        image = pictures.start.to(device)
        evaluation = _quickest(lambda: float(engine.evaluate(image).terms.total))
        history = torch.rand(ROWS, image.numel(), dtype=torch.float32, device=device)
        row = _quickest(lambda: float(torch.mv(history, history[0])[0])) / ROWS
    seconds = 0.0
    for scale in schedule:
        area = (scale.size / schedule[-1].size) ** 2 if schedule[-1].size else 1.0
        pairs = sum(min(k, settings.history_size) for k in range(scale.iterations))
        seconds += area * ((scale.iterations + 1) * evaluation + PASSES * pairs * row)
    style_pixels = max(style.shape[-1] * style.shape[-2] for style in pictures.styles)
    return Estimate(
        width,
        height,
        memory.estimate(width, height, settings, style_pixels, device),
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
