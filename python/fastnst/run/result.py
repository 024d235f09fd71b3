"""What a run tells its callers: losses, steps on the way, and the result with its record."""

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

from fastnst._version import __version__
from fastnst.evaluation import Terms
from fastnst.images.colour import with_colours_of
from fastnst.images.encode import save_image
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

    def to_row(self) -> dict[str, float]:
        """``{"total": …, "content.relu4_2": …, "style.relu1_1": …, "tv": …}``."""
        content = {f"content.{name}": value for name, value in self.content.items()}
        style = {f"style.{name}": value for name, value in self.style.items()}
        return {"total": self.total, **content, **style, "tv": self.tv}

    @classmethod
    def from_row(cls, row: Mapping[str, float]) -> Losses:
        """What ``to_row`` was made from."""
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
        return finished(self._image, self._colours)


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
        engine: What ran: ``torch``, ``native`` or ``onnx``.
        device: Where: ``cpu``, ``cuda:0``, …
        precision: Of the features: ``fp32`` or ``bf16``.
        settings: As they were asked for.
        weights: Name and SHA-256 of the network's weights.
        scales: What was done at each scale, coarsest first.
        snapshots: ``{iteration: picture}`` of the start and of the middle of the run, 8-bit RGB.
        provider: What ran the graph of engine ``onnx``; None for the others.
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

    @property
    def image(self) -> Image.Image:
        """The picture, 8-bit RGB."""
        return to_pil(self.pixels)

    def save(
        self, path: str | os.PathLike[str] | BinaryIO, bits: int = 8, format: str | None = None
    ) -> Path | None:
        """Write the picture; a PNG carries ``to_dict()`` as JSON in its text entry "fastnst".

        Args:
            path: Where; .png, .jpg, .webp, .tiff or .bmp. Or a binary file open for writing.
            bits: 8, or 16 for PNG and TIFF.
            format: ``png``, ``jpeg``, ``webp``, ``tiff`` or ``bmp``, which an open file needs.

        Returns:
            The path, or None for an open file.

        Raises:
            InvalidInput: for a format or number of bits that there is not.
            OutputFailed: if the file cannot be written.
        """
        output = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
        record = json.dumps(self.to_dict(output=output))
        return save_image(self.pixels, path, bits, {"fastnst": record}, format)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the losses over the evaluations and the pictures on the way; see ``plots``.

        Args:
            path: Where to write it, a PNG, PDF or SVG file; None: nowhere.

        Returns:
            The figure.

        Raises:
            BackendUnavailable: without matplotlib (extra ``plot``).
            InvalidInput: for an unknown format, or a folder that cannot be written to.
            OutputFailed: if the file cannot be written.
        """
        from fastnst.output import plots  # only here: most runs are not drawn

        return plots.plot(self, path)

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
    """The picture to show, with the content's colours where they are to be put back."""
    return to_pixels(image if colours is None else with_colours_of(image, colours))


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during the optimisation. Exit code 130.

    Attributes:
        result: The ``Result`` with the best picture so far.
    """

    exit_code = 130

    def __init__(self, result: Result) -> None:
        super().__init__("interrupted")
        self.result = result
