"""What a run will take in memory and time, from a short trial.

The trial is of the same size up to a megapixel. A larger picture is tried at a megapixel, whole or
in a few strips as the run will be, and its time is counted by the pixels that are computed. So is
the time of the targets and of scaling the pictures; the pictures themselves are decoded for the
trial as for the run.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.images.decode import Picture
from fastnst.images.large import DecodedRows
from fastnst.inputs.pictures import Styles
from fastnst.objective.build import check_sizes
from fastnst.run import memory, pieces
from fastnst.run.available import available
from fastnst.run.exhaustion import enough
from fastnst.run.pieces import Plan
from fastnst.run.planning import make_plan
from fastnst.run.preparation import Preparation
from fastnst.run.prepare import prepare
from fastnst.run.resources import UNLIMITED, Resources
from fastnst.run.schedule import Scale
from fastnst.run.sharing import exchanging_grid
from fastnst.settings.settings import Settings
from fastnst.strips.geometry import Grid

EVALUATIONS = 3  # in the trial, after one that warms up; the quickest counts
ROWS = 4  # of the trial's history of L-BFGS
TRIAL = 1 << 20  # pixels of the trial's picture at most
STRIPS = 4  # of the trial, if the run will have strips
T = TypeVar("T")
PASSES = 4  # over the curvature pairs in an iteration: s and y, each read twice


@dataclass(frozen=True)
class ScaleEstimate:
    """What one scale of a run will take.

    Attributes:
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        iterations: Iterations at this scale.
        seconds: How long they will take, with what precedes them: pictures and targets.
        pieces: Strips or tiles that the picture is computed in; 1: it is computed whole.
    """

    width: int
    height: int
    iterations: int
    seconds: float
    pieces: int = 1


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        width: Width of the result in pixels.
        height: Height of the result in pixels.
        bytes: Memory at the peak, beside what the process has already: that of the device.
        free_bytes: Memory that is free now; None if the system does not say.
        seconds: How long the run will take, from the files to the last iterate.
        engine: The engine that will run: ``torch``, ``native`` or ``onnx``.
        device: The device that it will run on: ``cpu``, ``cuda``, …
        precision: ``fp32``, ``int16``, ``bf16`` or ``mixed``.
        pieces: Strips or tiles that the picture is computed in; 1: it is computed whole.
        scratch_bytes: Space that it takes in the scratch folder.
        pairs: Curvature pairs that L-BFGS keeps.
        scales: The scales of the run, coarsest first.
        main_bytes: Main memory that a picture in pieces takes where these are computed on a GPU.
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
    scales: tuple[ScaleEstimate, ...] = ()
    main_bytes: int = 0


def estimate(
    content: Picture | DecodedRows,
    style: Styles,
    settings: Settings,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
    resources: Resources = UNLIMITED,
) -> Estimate:
    """Measure a few evaluations of a run's objective and a few rows of its solver's history.

    Args:
        content: Anything that ``load_image`` takes.
        style: Anything that ``load_image`` takes, or a list of such.
        settings: The settings of the run.
        content_mask: As for ``stylize``.
        style_masks: As for ``stylize``.
        resources: What the run may take of the machine.

    Raises:
        InvalidInput: for a picture or setting that cannot be used, or a size that does not fit in
            memory, with one that does.
        BackendUnavailable: if an engine or device asked for by name cannot run.
    """
    prepared, decoding = _timed(
        lambda: prepare(*(content, style, settings, content_mask, style_masks), resources=resources)
    )
    settings = prepared.settings
    device, width, height = prepared.device, prepared.width, prepared.height
    plans = [_plan(prepared, scale) for scale in prepared.schedule]
    with enough(width, height, settings, device):
        trial = _trial(prepared)
        pictures, scaling = _timed(lambda: prepared.pictures(trial))
        plan = _trial_plan(prepared, pictures.start, plans[-1])
        pictures = pictures.to(plan.home(device))
        image = pictures.start
        # of a mixed run as it begins, in bf16
        engine, making = _timed(lambda: prepared.engine(pictures, plan=plan))
        evaluation = _quickest(lambda: float(engine.evaluate(image).terms.total))
        history = torch.ones(ROWS, image.numel(), dtype=torch.float32, device=image.device)
        row = _quickest(lambda: float(torch.mv(history, history[0])[0])) / ROWS
    pixels = image.shape[-2] * image.shape[-1]
    computed = pixels if plan.grid is None else plan.grid.computed_pixels
    styles = _style_pixels(prepared, trial)
    scales = []
    for scale, way in zip(prepared.schedule, plans, strict=True):
        size = prepared.sources.size(scale.size)
        share = size[0] * size[1] / pixels
        inside = share * pixels if way.grid is None else way.grid.computed_pixels
        pairs = sum(min(k, settings.kept_pairs(width * height)) for k in range(scale.iterations))
        work = inside * _passes(way) / (computed * _passes(plan))
        seconds = (scale.iterations + 1) * evaluation * work
        seconds += PASSES * pairs * row * share
        seen = inside + _style_pixels(prepared, scale)  # by the network, for the targets
        seconds += (scaling + making) * seen / (computed + styles)
        scales.append(ScaleEstimate(*size, scale.iterations, seconds, way.strips))
    need = prepared.need_at(prepared.schedule[-1])
    return Estimate(
        width,
        height,
        memory.estimate(need, plans[-1]),
        available(device),
        decoding + sum(scale.seconds for scale in scales),
        engine.name,
        str(device),
        engine.precision,
        plans[-1].strips,
        0 if plans[-1].scratch is None else need.mapped(),
        settings.pairs(need.pixels),
        tuple(scales),
        need.beside(plans[-1]) if plans[-1].cut else 0,
    )


def _plan(prepared: Preparation, scale: Scale) -> Plan:
    """How the run at a scale is made to fit."""
    its = prepared.resources
    return make_plan(prepared.need_at(scale), its.memory, its.scratch)


def _trial(prepared: Preparation) -> Scale:
    """The last scale; or one of ``TRIAL`` pixels if that is smaller, of more for small sides."""
    last, pixels = prepared.schedule[-1], prepared.width * prepared.height
    longest = max(prepared.width, prepared.height)
    sources, settings = prepared.sources, prepared.settings
    side = int(longest * (TRIAL / pixels) ** 0.5)
    while side < longest:
        with contextlib.suppress(InvalidInput):
            sizes = sources.size(side), sources.style_sizes(settings, side)
            check_sizes(prepared.weights.architecture, settings, *sizes)
            return Scale(side, 0)
        side = math.ceil(side * 1.1)
    return last


def _trial_plan(prepared: Preparation, image: Tensor, plan: Plan) -> Plan:
    """How to cut the trial's picture: as the run's, if they are of one size."""
    height, width = image.shape[-2:]
    plan = replace(plan, scratch=None)  # which makes no difference to an evaluation
    if plan.grid is None or (plan.grid.height, plan.grid.width) == (height, width):
        return plan
    spacing = pieces.cuts(prepared.settings, prepared.device)
    if plan.grid.exchanges:
        return replace(plan, grid=exchanging_grid(height, width, spacing))
    rows = height // STRIPS // spacing.alignment * spacing.alignment
    return replace(plan, grid=Grid.cut(height, width, spacing, max(spacing.smallest, rows)))


def _passes(plan: Plan) -> float:
    """How often an evaluation goes through the network, forward or back.

    Pieces whose features are not kept are computed forward twice, but for the last; and so are
    targets that are not kept.
    """
    forward = 1.0 if plan.keeps_features else 2 - 1 / plan.strips
    return 1 + (forward if plan.keeps_content else 2 * forward)


def _style_pixels(prepared: Preparation, scale: Scale) -> int:
    """The pixels of all style pictures at a scale."""
    sizes = prepared.sources.style_sizes(prepared.settings, scale.size)
    return sum(width * height for width, height in sizes)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """What ``work`` returns, and the seconds that it takes."""
    began = time.perf_counter()
    found = work()
    return found, time.perf_counter() - began


def _quickest(work: Callable[[], float]) -> float:
    """The least seconds that ``work`` takes; it fetches a number, so that a GPU has finished."""
    work()
    seconds = []
    for _ in range(EVALUATIONS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
