"""What a run will take in memory and time, from a short trial of the same size."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fastnst.images.decode import Picture
from fastnst.inputs.pictures import Pictures, Styles
from fastnst.run import memory
from fastnst.run.available import available
from fastnst.run.exhaustion import enough
from fastnst.run.pieces import Plan
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
        scratch_bytes: Space that it takes in the scratch folder.
        pairs: Curvature pairs that L-BFGS keeps.
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
    scratch_bytes: int = 0
    pairs: int = 100


def estimate(
    content: Picture,
    style: Styles,
    settings: Settings,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
    memory_limit: int | None = None,
    scratch: Path | None = None,
) -> Estimate:
    """Measure a few evaluations of a run's objective and a few rows of its solver's history.

    Args:
        content: Anything that ``load_image`` takes.
        style: Anything that ``load_image`` takes, or a list of such.
        settings: The settings of the run.
        content_mask: As for ``stylize``.
        style_masks: As for ``stylize``.
        memory_limit: Bytes that the run may take; None: what is free.
        scratch: A folder for what does not fit in memory; None: there is none.

    Raises:
        InvalidInput: for a picture or setting that cannot be used, or a size that does not fit in
            memory, with one that does.
        BackendUnavailable: if an engine or device asked for by name cannot run.
    """
    prepared = prepare(
        *(content, style, settings, content_mask, style_masks),
        memory_limit=memory_limit,
        scratch=scratch,
    )
    settings = prepared.settings
    device, schedule = prepared.device, prepared.schedule
    width, height = prepared.width, prepared.height
    with enough(width, height, settings, device):
        pictures = prepared.pictures(schedule[-1])
        plan, need = prepared.plan(pictures), prepared.need(pictures)
        part = _piece(pictures, plan)
        engine = prepared.engine(part)  # a mixed run begins in bf16
        image = part.start
        evaluation = _quickest(lambda: float(engine.evaluate(image).terms.total))
        history = torch.rand(ROWS, image.numel(), dtype=torch.float32, device=device)
        row = _quickest(lambda: float(torch.mv(history, history[0])[0])) / ROWS
    # Pieces are computed forward twice and back once, in place of once each.
    parts = need.pixels / (image.shape[-2] * image.shape[-1])
    if plan.grid is not None:
        halo = plan.grid.computed_pixels / need.pixels
        evaluation *= parts * halo * (1.5 if plan.keeps_content else 2.5)
        row *= parts
    seconds = 0.0
    for scale in schedule:
        area = (scale.size / schedule[-1].size) ** 2 if schedule[-1].size else 1.0
        pairs = sum(min(k, settings.pairs(width * height)) for k in range(scale.iterations))
        seconds += area * ((scale.iterations + 1) * evaluation + PASSES * pairs * row)
    return Estimate(
        width,
        height,
        memory.estimate(need, plan),
        available(device),
        seconds,
        engine.name,
        str(device),
        engine.precision,
        plan.strips,
        0 if plan.scratch is None else need.mapped(),
        settings.pairs(need.pixels),
    )


def _piece(pictures: Pictures, plan: Plan) -> Pictures:
    """The pictures, or of each a part as large as the largest piece where they are cut."""
    if plan.grid is None:
        return pictures
    height, width = plan.grid.largest

    def part(x: Tensor) -> Tensor:
        return x[..., :height, :width].contiguous()

    styles = tuple(part(style) for style in pictures.styles)
    return Pictures(part(pictures.content), styles, part(pictures.start))


def _quickest(work: Callable[[], float]) -> float:
    """The least seconds that ``work`` takes; it fetches a number, so that a GPU has finished."""
    work()
    seconds = []
    for _ in range(EVALUATIONS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
