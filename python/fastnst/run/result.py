"""The result of a run: its picture, its losses, and what made it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image

from fastnst import plots
from fastnst.images.encode import encode, save_image, save_rows
from fastnst.images.pixels import Pixels, to_pil
from fastnst.run.losses import Losses, contributions
from fastnst.run.record import ScaleRecord, versions
from fastnst.run.shared_rows import SharedRows
from fastnst.settings.settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        precision: ``fp32``, ``int16``, ``bf16`` or ``mixed``.
        settings: The settings of the run, as they were asked for.
        effective: The same with the weights that ``strength`` makes and the number of curvature
            pairs.
        weights: Name and SHA-256 of the network's weights.
        scales: What was done at each scale, coarsest first.
        snapshots: ``{iteration: picture}`` of the start and of the middle of the run, 8-bit RGB,
            reduced to at most 2048 pixels a side.
        provider: What ran the graph of engine ``onnx``; None for the others.
        tf32: Whether products of float32 features were rounded to TF32, on a GPU.
        strips: In how many pieces the picture of the last scale was computed; 1: whole.
        peak_bytes: The most memory that the process has had by the end of the run, pages of scratch
            files included; on a GPU, that PyTorch has had there. None where nothing says.
        rows: Where several ranks share the picture and keep it by band (``run(by_band=True)``), all
            of its rows, which rank 0 has from the others while they serve it; ``pixels`` are those
            of this rank. None everywhere else.
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
    effective: Settings
    weights: Mapping[str, str]
    scales: tuple[ScaleRecord, ...] = ()
    snapshots: Mapping[int, Image.Image] = field(default_factory=dict, repr=False)
    provider: str | None = None
    tf32: bool = False
    strips: int = 1
    peak_bytes: int | None = None
    rows: SharedRows | None = field(default=None, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        if self.rows is not None:
            return self.rows.width, self.rows.height
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def image(self) -> Image.Image:
        """The picture, 8-bit RGB."""
        return to_pil(self.pixels)

    def __repr__(self) -> str:
        width, height = self.size
        return (
            f"<Result: {width}×{height}, {self.iterations} iterations in {self.seconds:.1f} s, "
            f"loss {self.losses.total:.4g}, engine {self.engine} on {self.device}>"
        )

    def _repr_png_(self) -> bytes:
        """The picture as notebooks show it."""
        return encode(self.pixels, "PNG")

    def save(
        self,
        path: str | os.PathLike[str] | BinaryIO,
        bits: int = 8,
        format: str | None = None,
        pyramid: bool = False,
    ) -> Path | None:
        """Write the picture; a PNG carries ``to_dict()`` as JSON in its text entry "fastnst".

        A picture that ranks keep by band is written by rank 0, within ``rows.serving()``.

        Args:
            path: The file to write, .png, .jpg, .webp, .tiff or .bmp; or a binary file that is open
                for writing.
            bits: 8, or 16 for PNG and TIFF.
            format: ``png``, ``jpeg``, ``webp``, ``tiff`` or ``bmp``, which an open file needs.
            pyramid: Whether a TIFF file also holds reduced pictures, which viewers show first.

        Returns:
            The path, or None for an open file.

        Raises:
            InvalidInput: for an unknown format, or a number of bits that it does not have.
            OutputFailed: if the file cannot be written.
        """
        output = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
        record = json.dumps(self.to_dict(output=output))
        if self.rows is not None:
            return save_rows(self.rows, path, bits, {"fastnst": record}, format, pyramid)
        return save_image(self.pixels, path, bits, {"fastnst": record}, format, pyramid)

    def contributions(self) -> dict[str, list[float]]:
        """What each part of the objective adds to the total, by evaluation.

        Returns:
            ``{"content relu4_2": [α v_l c_l, …], "style relu1_1": [β w_l g_l, …],
            "total variation": [τ tv, …]}``.
        """
        return contributions(self.history, self.effective)

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
        best = next(k for k, losses in enumerate(self.history) if losses is self.losses)
        pictures = {
            "start" if k == 0 else f"after {k} iterations": picture
            for k, picture in sorted(self.snapshots.items())
        }
        pictures[f"result: evaluation {best + 1}, loss {self.losses.total:.4g}"] = self.image
        width, height = self.size
        title = f"{width}×{height}, {self.iterations} iterations in {self.seconds:.1f} s"
        file = None if path is None else Path(path)
        return plots.plot(totals, self.contributions(), pictures, title, file)

    def to_dict(self, output: str | None = None) -> dict[str, Any]:
        """The record of the run that ``fastnst stylize --json`` prints: plain values."""
        width, height = self.size
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
            "strips": self.strips,
            "peak_bytes": self.peak_bytes,
            "seed": self.settings.seed,
            "weights": dict(self.weights),
            "settings": self.settings.to_dict(),
            "effective": _changes(self.settings.to_dict(), self.effective.to_dict()),
            "versions": versions(),
        }


def _changes(asked: dict[str, Any], effective: dict[str, Any]) -> dict[str, Any]:
    """The values that are not what was asked for."""
    return {name: value for name, value in effective.items() if value != asked[name]}
