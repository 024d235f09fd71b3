"""One call from the pictures to the result: load, compute the targets, optimise, report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from fastnst.cache import Cache
from fastnst.devices import DEFAULT_SIZE, choose_device, undisturbed
from fastnst.engines.create import choose_precision, create_engine
from fastnst.evaluation import Engine
from fastnst.images.decode import Picture
from fastnst.images.pixels import resize, scaled_size, to_pixels, to_tensor
from fastnst.inputs.pictures import Sources, Styles, check_memory, decode, scale_pictures
from fastnst.network.weights import Weights, load_weights
from fastnst.run.checkpoint import (
    Checkpoints,
    Identity,
    check_identity,
    load_checkpoint,
)
from fastnst.run.memory import enough
from fastnst.run.recorder import Course
from fastnst.run.result import Result, Step
from fastnst.run.schedule import make_schedule
from fastnst.settings.settings import Settings


@undisturbed()
def run(
    content: Picture,
    style: Styles,
    settings: Settings,
    callback: Callable[[Step], None] | None = None,
    *,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
    checkpoints: Checkpoints | None = None,
    resume: Path | None = None,
    kept: Cache | None = None,
) -> Result:
    """``stylize`` with a ready ``Settings`` object.

    Args:
        content: As for ``stylize``.
        style: As for ``stylize``.
        settings: Of the run.
        callback: As for ``stylize``.
        content_mask: As for ``stylize``.
        style_masks: As for ``stylize``.
        checkpoints: Where to keep the state of the run, and how often.
        resume: A checkpoint to go on from.
        kept: What earlier runs made and this one may use again.
    """
    kept = kept or Cache()
    device = choose_device(settings.device)
    size = DEFAULT_SIZE[device.type] if settings.size is None else settings.size
    sources = decode(content, style, content_mask, style_masks, kept)
    schedule = make_schedule(settings, size, max(sources.content.shape[:2]))
    check_memory(sources, settings, schedule[-1].size, device)
    own_height, own_width, _ = sources.content.shape
    width, height = scaled_size(own_width, own_height, schedule[-1].size)
    if checkpoints is not None:
        checkpoints.check(width * height, settings)
    source = (settings.weights, settings.preprocessing)
    weights = kept.get("weights", source, lambda: load_weights(*source))
    resumed = None if resume is None else load_checkpoint(resume)
    course = Course(settings, weights, schedule, callback, checkpoints)
    with enough(width, height, settings, device):
        for index, scale in enumerate(schedule):
            if resumed is not None and index < len(resumed.scales):
                continue
            pictures = scale_pictures(sources, settings, scale.size, device)
            engine = create_engine(
                weights,
                pictures.content.to(device),
                [style.to(device) for style in pictures.styles],
                replace(settings, precision=choose_precision(settings, device)),
                None if pictures.regions is None else [r.to(device) for r in pictures.regions],
                cache=kept,
            )
            course.identity = _identity(sources, settings, weights, engine, device)
            if resumed is not None and resume is not None and not course.history:
                check_identity(resumed, resume, course.identity)
            start = (
                pictures.start if course.best is None else _enlarged(course.best, pictures.content)
            )
            colours = None if pictures.colours is None else pictures.colours.to(device)
            course.follow(engine, start.to(device), colours, scale, resumed)
            resumed = None
    result = course.result()
    assert result is not None  # minimise yields the start at least
    return result


def _identity(
    sources: Sources, settings: Settings, weights: Weights, engine: Engine, device: torch.device
) -> Identity:
    made_from = {
        "file of weights": weights.sha256,
        "engine": engine.name,
        "device": device.type,
        "precision": engine.precision,
    }
    return Identity.of(settings, sources.digests(settings) | made_from)


def _enlarged(image: Tensor, like: Tensor) -> Tensor:
    """A picture ``(1, 3, h, w)`` at the size of another, on the CPU."""
    return to_tensor(resize(to_pixels(image), like.shape[3], like.shape[2]))
