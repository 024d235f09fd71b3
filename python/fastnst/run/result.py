"""What a run tells its callers: losses, steps on the way, the result, and errors that carry one."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from fastnst import plots
from fastnst._version import __version__
from fastnst.errors import NonFiniteLoss
from fastnst.evaluation import Terms
from fastnst.images.colour import with_colours_of
from fastnst.images.encode import encode, save_image
from fastnst.images.pixels import Pixels, to_pil, to_pixels
from fastnst.settings.settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        """The losses as plain numbers, from an engine's terms."""
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

    def to_row(self) -> dict[str, float]:
        """``{"total": …, "content.relu4_2": …, "style.relu1_1": …, "tv": …}``."""
        content = {f"content.{name}": value for name, value in self.content.items()}
        style = {f"style.{name}": value for name, value in self.style.items()}
        return {"total": self.total, **content, **style, "tv": self.tv}

    @classmethod
    def from_row(cls, row: Mapping[str, float]) -> Losses:
        """The losses that ``to_row`` was made from."""
        parts = {
            kind: {
                k.removeprefix(f"{kind}."): v for k, v in row.items() if k.startswith(f"{kind}.")
            }
            for kind in ("content", "style")
        }
        return cls(row["total"], parts["content"], parts["style"], row["tv"])


@dataclass(frozen=True)
class Step:
    """What a callback hears after each evaluation.

    Attributes:
        iteration: 0 for the start, k after k iterations, counted over all scales.
        iterations: How many iterations there will be, over all scales.
        evaluations: Evaluations of the objective so far.
        losses: The objective at the picture of this step.
        seconds: How long the optimisation has run.
        scale: The number of the scale at hand, from 1.
        scales: How many scales there are.
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
        """The picture of this step, 8-bit RGB, made on demand. Read it inside the callback."""
        return to_pil(self.pixels)

    @property
    def pixels(self) -> Pixels:
        """The picture of this step, ``(H, W, 3)`` float32 in [0, 1]."""
        return finished(self._image, self._colours)


@dataclass(frozen=True)
class ScaleRecord:
    """What was done at one scale.

    Attributes:
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        iterations: Iterations done.
        evaluations: Evaluations of the objective.
    """

    width: int
    height: int
    iterations: int
    evaluations: int


@dataclass(frozen=True, repr=False)
class Result:
    """A finished run.

    Attributes:
        pixels: ``(H, W, 3)`` float32, RGB in [0, 1]: the best picture of the last scale.
        losses: The objective at that picture (before the content's colours were put back, where
            the setting ``color`` asks for that).
        history: The objective at each evaluation, in order; at several scales one after the other.
        iterations: Iterations done.
        evaluations: Evaluations of the objective.
        seconds: How long the optimisation took, without loading pictures and weights.
        engine: The engine that ran: ``torch``, ``native`` or ``onnx``.
        device: The device that it ran on: ``cpu``, ``cuda:0``, …
        precision: The precision of the features: ``fp32``, ``bf16`` or ``mixed``.
        settings: The settings as they were asked for.
        weights: Name and SHA-256 of the network's weights.
        scales: What was done at each scale, coarsest first.
        snapshots: ``{iteration: picture}`` of the start and of the middle of the run, 8-bit RGB.
        provider: What ran the graph of engine ``onnx``; None for the others.
        tf32: Whether products of float32 features were rounded to TF32, on a GPU.
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
    snapshots: Mapping[int, Image.Image] = field(default_factory=dict, repr=False)
    provider: str | None = None
    tf32: bool = False

    @property
    def image(self) -> Image.Image:
        """The picture, 8-bit RGB."""
        return to_pil(self.pixels)

    def __repr__(self) -> str:
        height, width, _ = self.pixels.shape
        return (
            f"<Result: {width}×{height}, {self.iterations} iterations in {self.seconds:.1f} s, "
            f"loss {self.losses.total:.4g}, engine {self.engine} on {self.device}>"
        )

    def _repr_png_(self) -> bytes:
        """The picture as notebooks show it."""
        return encode(self.pixels, "PNG")

    def save(
        self, path: str | os.PathLike[str] | BinaryIO, bits: int = 8, format: str | None = None
    ) -> Path | None:
        """Write the picture; a PNG carries ``to_dict()`` as JSON in its text entry "fastnst".

        Args:
            path: The file to write, .png, .jpg, .webp, .tiff or .bmp; or a binary file that is open
                for writing.
            bits: 8, or 16 for PNG and TIFF.
            format: ``png``, ``jpeg``, ``webp``, ``tiff`` or ``bmp``, which an open file needs.

        Returns:
            The path, or None for an open file.

        Raises:
            InvalidInput: for an unknown format, or a number of bits that it does not have.
            OutputFailed: if the file cannot be written.
        """
        output = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
        record = json.dumps(self.to_dict(output=output))
        return save_image(self.pixels, path, bits, {"fastnst": record}, format)

    def contributions(self) -> dict[str, list[float]]:
        """What each part of the objective adds to the total, by evaluation.

        Returns:
            ``{"content relu4_2": [α v_l c_l, …], "style relu1_1": [β w_l g_l, …],
            "total variation": [τ tv, …]}``.
        """
        settings = self.settings
        weights, shares = settings.layer_weights(), settings.content_weights()
        parts = {}
        for name in self.losses.content:
            factor = settings.content_weight * shares[name]
            parts[f"content {name}"] = [factor * x.content[name] for x in self.history]
        for name in self.losses.style:
            factor = settings.style_weight * weights[name]
            parts[f"style {name}"] = [factor * x.style[name] for x in self.history]
        if settings.tv_weight:
            parts["total variation"] = [settings.tv_weight * x.tv for x in self.history]
        return parts

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the losses over the evaluations and the pictures on the way; see ``plots.plot``.

        Args:
            path: The file to write the figure to, a PNG, PDF or SVG file; None: no file.

        Returns:
            The figure, which a notebook shows.

        Raises:
            BackendUnavailable: without matplotlib (extra ``plot``).
            InvalidInput: for an unknown format, or a folder that cannot be written to.
            OutputFailed: if the file cannot be written.
        """
        totals = [losses.total for losses in self.history]
        best = min(range(len(totals)), key=totals.__getitem__)
        pictures = {
            "start" if k == 0 else f"after {k} iterations": picture
            for k, picture in sorted(self.snapshots.items())
        }
        pictures[f"result: evaluation {best + 1}, loss {self.losses.total:.4g}"] = self.image
        height, width, _ = self.pixels.shape
        title = f"{width}×{height}, {self.iterations} iterations in {self.seconds:.1f} s"
        file = None if path is None else Path(path)
        return plots.plot(totals, self.contributions(), pictures, title, file)

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
            "provider": self.provider,
            "device": self.device,
            "precision": self.precision,
            "tf32": self.tf32,
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


def finished(image: Tensor, colours: Tensor | None) -> Pixels:
    """The picture that is shown for ``(1, 3, H, W)``, in the colours of another if there is one."""
    return to_pixels(image if colours is None else with_colours_of(image, colours))


class Diverged(NonFiniteLoss):
    """The loss of a run became NaN or infinite and could not be recovered. Exit code 1.

    Attributes:
        result: The ``Result`` with the best picture before that, or None if there is none.
    """

    def __init__(self, message: str, result: Result | None) -> None:
        super().__init__(message)
        self.result = result


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during the optimisation. Exit code 130.

    Attributes:
        result: The ``Result`` with the best picture so far.
    """

    exit_code = 130

    def __init__(self, result: Result) -> None:
        super().__init__("interrupted")
        self.result = result
