"""One call from two pictures to the result: load, compute the targets, optimise, report."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from fastnst._version import __version__
from fastnst.devices import DEFAULT_SIZE, choose_device
from fastnst.engines import Engine, create_engine
from fastnst.errors import Interrupted, NonFiniteLoss
from fastnst.images import Picture, Pixels, save_image, to_pil, to_pixels
from fastnst.lbfgs import Iterate, minimise
from fastnst.objective import Terms
from fastnst.pictures import load_pictures
from fastnst.presets import make_settings
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
        iteration: 0 for the start, k after k iterations.
        iterations: How many there will be.
        evaluations: Evaluations of the objective so far.
        losses: The objective at the picture of this step.
        seconds: Since the optimisation began.
    """

    iteration: int
    iterations: int
    evaluations: int
    losses: Losses
    seconds: float
    _image: Tensor = field(repr=False)

    @property
    def image(self) -> Image.Image:
        """The picture of this step, 8-bit RGB. Read it inside the callback; it is made on demand."""
        return to_pil(self.pixels)

    @property
    def pixels(self) -> Pixels:
        """The picture of this step, ``(H, W, 3)`` float32 in [0, 1]."""
        return to_pixels(self._image)


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        pixels: ``(H, W, 3)`` float32, RGB in [0, 1]: the picture with the lowest loss.
        losses: The objective at that picture.
        history: The objective at each evaluation, in order.
        iterations: L-BFGS iterations done.
        evaluations: Evaluations of the objective.
        seconds: The optimisation alone, without loading pictures and weights.
        engine: What ran: ``torch`` or ``native``.
        device: Where: ``cpu``, ``cuda:0``, …
        precision: Of the features: ``fp32`` or ``bf16``.
        settings: As they were asked for.
        weights: Name and SHA-256 of the network's weights.
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
    style: Picture,
    *,
    preset: str = "gatys",
    callback: Callable[[Step], None] | None = None,
    **settings: Any,
) -> Result:
    """Give ``content`` the style of ``style`` (Gatys, Ecker and Bethge, arXiv:1508.06576).

    Args:
        content: A path, ``sample:NAME``, a PIL image, an array ``(H, W, 3)`` or a tensor
            ``(3, H, W)``; see ``fastnst.load_image``.
        style: Likewise.
        preset: A key of ``fastnst.PRESETS``.
        callback: Called with a ``Step`` after each evaluation; an exception ends the run.
        **settings: Attributes of ``fastnst.Settings`` that replace the preset's.

    Returns:
        The result. Nothing is written or printed.

    Raises:
        InvalidInput: for a picture or setting that cannot be used.
        BackendUnavailable: if an engine or device asked for by name cannot run.
        NonFiniteLoss: if the loss is not finite; ``error.result`` has the best picture.
        Interrupted: on Ctrl-C during the optimisation; ``error.result`` has the best picture.
    """
    return run(content, style, make_settings(preset, settings), callback)


def run(
    content: Picture,
    style: Picture,
    settings: Settings,
    callback: Callable[[Step], None] | None = None,
) -> Result:
    """``stylize`` with a ready ``Settings`` object."""
    device = choose_device(settings.device)
    size = DEFAULT_SIZE[device.type] if settings.size is None else settings.size
    pictures = load_pictures(content, style, settings, size, device)
    weights = load_weights(settings.weights, settings.preprocessing)
    engine = create_engine(
        weights, pictures.content.to(device), pictures.style.to(device), settings
    )
    return _optimise(engine, pictures.start.to(device), settings, weights, callback)


def _optimise(
    engine: Engine,
    start: Tensor,
    settings: Settings,
    weights: Weights,
    callback: Callable[[Step], None] | None,
) -> Result:
    """The loop: collect the history, keep the best picture, report each step."""
    history: list[Losses] = []
    best = start.clone()
    best_losses: Losses | None = None
    last: Iterate | None = None
    began = time.perf_counter()

    def result() -> Result | None:
        if last is None or best_losses is None:
            return None
        return Result(
            to_pixels(best),
            best_losses,
            tuple(history),
            last.iteration,
            last.evaluations,
            time.perf_counter() - began,
            engine.name,
            str(start.device),
            engine.precision,
            settings,
            {"name": weights.name, "sha256": weights.sha256},
        )

    try:
        for last in minimise(
            engine.evaluate,
            start,
            iterations=settings.iterations,
            history_size=settings.history_size,
            optimizer=settings.optimizer,
        ):
            losses = Losses.of(last.evaluation.terms)
            history.append(losses)
            if best_losses is None or losses.total < best_losses.total:
                best_losses = losses
                best.copy_(last.image)
            if callback is not None:
                seconds = time.perf_counter() - began
                callback(
                    Step(
                        last.iteration,
                        settings.iterations,
                        last.evaluations,
                        losses,
                        seconds,
                        last.image,
                    )
                )
    except KeyboardInterrupt as interrupt:
        so_far = result()
        if so_far is None:
            raise
        raise Interrupted(so_far) from interrupt
    except NonFiniteLoss as error:
        error.result = result()
        raise
    finished = result()
    assert finished is not None  # minimise yields the start at least
    return finished
