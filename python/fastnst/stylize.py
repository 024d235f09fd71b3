"""One call from two pictures to the result: load, compute the targets, optimise, report."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from fastnst._version import __version__
from fastnst.colour import with_colours_of
from fastnst.devices import DEFAULT_SIZE, choose_device
from fastnst.engines import Engine, create_engine
from fastnst.errors import Interrupted, NonFiniteLoss
from fastnst.images import Picture, Pixels, resize, save_image, to_pil, to_pixels, to_tensor
from fastnst.lbfgs import Iterate, minimise
from fastnst.objective import Terms
from fastnst.pictures import Styles, check_memory, decode, scale_pictures
from fastnst.presets import make_settings
from fastnst.schedule import Scale, make_schedule
from fastnst.settings import Settings
from fastnst.weights import Weights, load_weights


@dataclass(frozen=True)
class Losses:
    """The objective at one picture.

    Attributes:
        total: L, the weighted sum.
        content: c_l by layer, unweighted.
        style: g_l by layer, unweighted.
        tv: tv(x), unweighted.
    """

    total: float
    content: Mapping[str, float]
    style: Mapping[str, float]
    tv: float

    @classmethod
    def of(cls, terms: Terms) -> Losses:
        """Read an engine's terms."""
        return cls(
            float(terms.total),
            {name: float(value) for name, value in terms.content.items()},
            {name: float(value) for name, value in terms.style.items()},
            float(terms.tv),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "total": self.total,
            "content": dict(self.content),
            "style": dict(self.style),
            "tv": self.tv,
        }


@dataclass(frozen=True)
class Step:
    """What a callback hears after each evaluation.

    Attributes:
        iteration: 0 for the start, k after k iterations, counted over all scales.
        iterations: How many there will be.
        evaluations: Evaluations of the objective so far.
        losses: The objective at the picture of this step.
        seconds: Since the optimisation began.
        scale: Which scale this is, from 1.
        scales: How many there are.
    """

    iteration: int
    iterations: int
    evaluations: int
    losses: Losses
    seconds: float
    _image: Tensor = field(repr=False)
    _colours: Tensor | None = field(default=None, repr=False)
    scale: int = 1
    scales: int = 1

    @property
    def image(self) -> Image.Image:
        """The picture of this step, 8-bit RGB. Read it inside the callback; it is made on demand."""
        return to_pil(self.pixels)

    @property
    def pixels(self) -> Pixels:
        """The picture of this step, ``(H, W, 3)`` float32 in [0, 1]."""
        return _finished(self._image, self._colours)


@dataclass(frozen=True)
class ScaleRecord:
    """What was done at one scale.

    Attributes:
        width: Of the picture, in pixels.
        height: Likewise.
        iterations: Iterations done.
        evaluations: Evaluations of the objective.
    """

    width: int
    height: int
    iterations: int
    evaluations: int


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        pixels: ``(H, W, 3)`` float32, RGB in [0, 1]: the picture with the lowest loss.
        losses: The objective at that picture (before the content's colours were put back, where
            the setting ``color`` asks for that).
        history: The objective at each evaluation, in order; at several scales one after the other.
        iterations: Iterations done.
        evaluations: Evaluations of the objective.
        seconds: The optimisation alone, without loading pictures and weights.
        engine: What ran: ``torch`` or ``native``.
        device: Where: ``cpu``, ``cuda:0``, …
        precision: Of the features: ``fp32`` or ``bf16``.
        settings: As they were asked for.
        weights: Name and SHA-256 of the network's weights.
        scales: What was done at each scale, coarsest first.
    """

    pixels: Pixels
    losses: Losses
    history: tuple[Losses, ...]
    iterations: int
    evaluations: int
    seconds: float
    engine: str
    device: str
    precision: str
    settings: Settings
    weights: Mapping[str, str]
    scales: tuple[ScaleRecord, ...] = ()

    @property
    def image(self) -> Image.Image:
        """The picture, 8-bit RGB."""
        return to_pil(self.pixels)

    def save(self, path: str | os.PathLike[str], bits: int = 8) -> Path:
        """Write the picture; a PNG carries ``to_dict()`` as JSON in its text entry "fastnst".

        Args:
            path: Where; .png, .jpg, .webp, .tiff or .bmp.
            bits: 8, or 16 for PNG and TIFF.

        Raises:
            InvalidInput: for a format or number of bits that there is not.
            OutputFailed: if the file cannot be written.
        """
        record = self.to_dict(output=os.fspath(path))
        return save_image(self.pixels, path, bits, {"fastnst": json.dumps(record)})

    def to_dict(self, output: str | None = None) -> dict[str, Any]:
        """The record of the run that ``fastnst stylize --json`` prints: plain values."""
        height, width, _ = self.pixels.shape
        return {
            "output": output,
            "width": width,
            "height": height,
            "iterations": self.iterations,
            "evaluations": self.evaluations,
            "scales": [asdict(scale) for scale in self.scales],
            "seconds": round(self.seconds, 3),
            "loss": self.losses.to_dict(),
            "engine": self.engine,
            "device": self.device,
            "precision": self.precision,
            "seed": self.settings.seed,
            "weights": dict(self.weights),
            "settings": self.settings.to_dict(),
            "versions": {
                "fastnst": __version__,
                "torch": torch.__version__,
                "numpy": np.__version__,
                "pillow": PIL.__version__,
                "python": platform.python_version(),
            },
        }


def stylize(
    content: Picture,
    style: Styles,
    *,
    preset: str = "gatys",
    callback: Callable[[Step], None] | None = None,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
    **settings: Any,
) -> Result:
    """Give ``content`` the style of ``style`` (Gatys, Ecker and Bethge, arXiv:1508.06576).

    Args:
        content: A path, ``sample:NAME``, a PIL image, an array ``(H, W, 3)`` or a tensor
            ``(3, H, W)``; see ``fastnst.load_image``.
        style: Likewise; or a list of such, blended as ``style_blend`` and ``blending`` say.
        preset: A key of ``fastnst.PRESETS``.
        callback: Called with a ``Step`` after each evaluation; an exception ends the run.
        content_mask: A picture, grey or in plain colours, that says which part of the content
            gets which style; see ``masks.py``.
        style_masks: One for the style picture, or a list with one for each: which part of it counts.
        **settings: Attributes of ``fastnst.Settings`` that replace the preset's.

    Returns:
        The result. Nothing is written or printed.

    Raises:
        InvalidInput: for a picture or setting that cannot be used.
        BackendUnavailable: if an engine or device asked for by name cannot run.
        NonFiniteLoss: if the loss is not finite; ``error.result`` has the best picture.
        Interrupted: on Ctrl-C during the optimisation; ``error.result`` has the best picture.
    """
    return run(
        content,
        style,
        make_settings(preset, settings),
        callback,
        content_mask=content_mask,
        style_masks=style_masks,
    )


def run(
    content: Picture,
    style: Styles,
    settings: Settings,
    callback: Callable[[Step], None] | None = None,
    *,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
) -> Result:
    """``stylize`` with a ready ``Settings`` object."""
    device = choose_device(settings.device)
    size = DEFAULT_SIZE[device.type] if settings.size is None else settings.size
    sources = decode(content, style, content_mask, style_masks)
    schedule = make_schedule(settings, size, max(sources.content.shape[:2]))
    check_memory(sources, settings, schedule[-1].size, device)
    weights = load_weights(settings.weights, settings.preprocessing)
    so_far = _SoFar(callback, schedule)
    for scale in schedule:
        pictures = scale_pictures(sources, settings, scale.size, device)
        engine = create_engine(
            weights,
            pictures.content.to(device),
            [style.to(device) for style in pictures.styles],
            settings,
            None if pictures.regions is None else [r.to(device) for r in pictures.regions],
        )
        start = pictures.start if so_far.best is None else _enlarged(so_far.best, pictures.content)
        colours = None if pictures.colours is None else pictures.colours.to(device)
        _optimise(engine, start.to(device), colours, settings, weights, so_far)
    finished = so_far.result
    assert finished is not None  # minimise yields the start at least
    return finished


@dataclass
class _SoFar:
    """What a run has done, at the scales before and at this one.

    Attributes:
        callback: Of the run.
        schedule: Its scales.
        result: Of all scales so far; None before the first is done.
        best: The best picture of the last scale that is done, as the solver left it.
    """

    callback: Callable[[Step], None] | None
    schedule: tuple[Scale, ...]
    result: Result | None = None
    best: Tensor | None = None


def _optimise(
    engine: Engine,
    start: Tensor,
    colours: Tensor | None,
    settings: Settings,
    weights: Weights,
    so_far: _SoFar,
) -> None:
    """The loop of one scale: collect the history, keep the best picture, report each step."""
    before, schedule = so_far.result, so_far.schedule
    history: list[Losses] = [] if before is None else list(before.history)
    scales = () if before is None else before.scales
    iterations_before, evaluations_before, seconds_before = (
        (0, 0, 0.0) if before is None else (before.iterations, before.evaluations, before.seconds)
    )
    iterations = sum(scale.iterations for scale in schedule)
    best = start.clone()
    best_losses: Losses | None = None
    last: Iterate | None = None
    began = time.perf_counter()

    def seconds() -> float:
        return seconds_before + time.perf_counter() - began

    def result() -> Result | None:
        if last is None or best_losses is None:
            return before
        height, width = start.shape[-2:]
        return Result(
            _finished(best, colours),
            best_losses,
            tuple(history),
            iterations_before + last.iteration,
            evaluations_before + last.evaluations,
            seconds(),
            engine.name,
            str(start.device),
            engine.precision,
            settings,
            {"name": weights.name, "sha256": weights.sha256},
            (*scales, ScaleRecord(width, height, last.iteration, last.evaluations)),
        )

    try:
        for last in minimise(
            engine.evaluate,
            start,
            iterations=schedule[len(scales)].iterations,
            history_size=settings.history_size,
            optimizer=settings.optimizer,
            learning_rate=settings.learning_rate,
            averaging=settings.averaging,
        ):
            losses = Losses.of(last.evaluation.terms)
            history.append(losses)
            if best_losses is None or losses.total < best_losses.total:
                best_losses = losses
                best.copy_(last.image)
            if so_far.callback is not None:
                so_far.callback(
                    Step(
                        iterations_before + last.iteration,
                        iterations,
                        evaluations_before + last.evaluations,
                        losses,
                        seconds(),
                        last.image,
                        colours,
                        len(scales) + 1,
                        len(schedule),
                    )
                )
    except KeyboardInterrupt as interrupt:
        finished = result()
        if finished is None:
            raise
        raise Interrupted(finished) from interrupt
    except NonFiniteLoss as error:
        error.result = result()
        raise
    so_far.result, so_far.best = result(), best


def _finished(image: Tensor, colours: Tensor | None) -> Pixels:
    """The picture to show, with the content's colours where they are to be put back."""
    return to_pixels(image if colours is None else with_colours_of(image, colours))


def _enlarged(image: Tensor, like: Tensor) -> Tensor:
    """A picture ``(1, 3, h, w)`` at the size of another, on the CPU."""
    return to_tensor(resize(to_pixels(image), like.shape[3], like.shape[2]))
