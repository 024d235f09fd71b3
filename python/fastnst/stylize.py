"""One call from two pictures to the result: load, compute the targets, optimise, report."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor

from fastnst._version import __version__
from fastnst.checkpoint import (
    Checkpoint,
    Checkpoints,
    Identity,
    check_identity,
    load_checkpoint,
    save_checkpoint,
)
from fastnst.devices import DEFAULT_SIZE, choose_device
from fastnst.engines import Engine, create_engine
from fastnst.errors import Interrupted, NonFiniteLoss
from fastnst.images import Picture, Pixels, digest, save_image, to_pil, to_pixels
from fastnst.kept import Kept
from fastnst.lbfgs import Iterate, minimise
from fastnst.objective import Terms
from fastnst.pictures import Pictures, load_pictures
from fastnst.presets import make_settings
from fastnst.settings import Settings
from fastnst.weights import Weights, load_weights

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
        engine: What ran: ``torch``, ``native`` or ``onnx``.
        device: Where: ``cpu``, ``cuda:0``, …
        precision: Of the features: ``fp32`` or ``bf16``.
        settings: As they were asked for.
        weights: Name and SHA-256 of the network's weights.
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
    snapshots: Mapping[int, Image.Image] = field(default_factory=dict, repr=False)
    provider: str | None = None

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
        from fastnst import plots  # only here: most runs are not drawn

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


def stylize(
    content: Picture,
    style: Picture,
    *,
    preset: str = "gatys",
    callback: Callable[[Step], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 50,
    resume: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Result:
    """Give ``content`` the style of ``style`` (Gatys, Ecker and Bethge, arXiv:1508.06576).

    Args:
        content: A path, ``sample:NAME``, a PIL image, an array ``(H, W, 3)`` or a tensor
            ``(3, H, W)``; see ``fastnst.load_image``.
        style: Likewise.
        preset: A key of ``fastnst.PRESETS``.
        callback: Called with a ``Step`` after each evaluation; an exception ends the run.
        checkpoint: A file to keep the state of the run in.
        checkpoint_every: Iterations between two checkpoints.
        resume: A checkpoint to go on from, of a run of the same pictures, weights and settings
            (``iterations`` may differ). The result is that of a run that was never interrupted,
            bit for bit on the same machine.
        **settings: Attributes of ``fastnst.Settings`` that replace the preset's.

    Returns:
        The result. Nothing is printed, and nothing but the checkpoint written.

    Raises:
        InvalidInput: for a picture, setting or checkpoint that cannot be used.
        BackendUnavailable: if an engine or device asked for by name cannot run.
        NonFiniteLoss: if the loss is not finite; ``error.result`` has the best picture.
        Interrupted: on Ctrl-C during the optimisation; ``error.result`` has the best picture.
        OutputFailed: if a checkpoint cannot be written.
    """
    keep = None if checkpoint is None else Checkpoints(Path(checkpoint), checkpoint_every)
    return run(
        content,
        style,
        make_settings(preset, settings),
        callback,
        checkpoints=keep,
        resume=None if resume is None else Path(resume),
    )


def run(
    content: Picture,
    style: Picture,
    settings: Settings,
    callback: Callable[[Step], None] | None = None,
    *,
    checkpoints: Checkpoints | None = None,
    resume: Path | None = None,
    kept: Kept | None = None,
) -> Result:
    """``stylize`` with a ready ``Settings`` object.

    Args:
        content: As for ``stylize``.
        style: As for ``stylize``.
        settings: Of the run.
        callback: As for ``stylize``.
        checkpoints: Where to keep the state of the run, and how often.
        resume: A checkpoint to go on from.
        kept: What earlier runs made and this one may use again.
    """
    kept = kept or Kept()
    device = choose_device(settings.device)
    size = DEFAULT_SIZE[device.type] if settings.size is None else settings.size
    pictures = load_pictures(content, style, settings, size, device, kept)
    source = (settings.weights, settings.preprocessing)
    weights = kept.get("weights", source, lambda: load_weights(*source))
    engine = create_engine(
        weights, pictures.content.to(device), pictures.style.to(device), settings, kept
    )
    start = pictures.start.to(device)
    identity = _identity(pictures, settings, weights, engine, device)
    if checkpoints is not None:
        checkpoints.check(start.shape[-1] * start.shape[-2], settings)
    resumed = None
    if resume is not None:
        resumed = load_checkpoint(resume)
        check_identity(resumed, resume, identity)
    return _optimise(engine, start, settings, weights, callback, identity, checkpoints, resumed)


def _identity(
    pictures: Pictures, settings: Settings, weights: Weights, engine: Engine, device: torch.device
) -> Identity:
    made_from = {
        "content picture": digest(pictures.content),
        "style picture": digest(pictures.style),
        "starting picture": digest(pictures.start),
        "file of weights": weights.sha256,
        "engine": engine.name,
        "device": device.type,
        "precision": engine.precision,
    }
    return Identity.of(settings, made_from)


def _optimise(
    engine: Engine,
    start: Tensor,
    settings: Settings,
    weights: Weights,
    callback: Callable[[Step], None] | None,
    identity: Identity,
    checkpoints: Checkpoints | None,
    resumed: Checkpoint | None,
) -> Result:
    """The loop: collect the history, keep the best picture, report each step, write checkpoints."""
    history: list[Losses] = []
    snapshots: dict[int, Tensor] = {}
    best = start.clone()
    best_row = iteration = evaluations = 0
    earlier = 0.0  # seconds before the checkpoint
    last: Iterate | None = None
    if resumed is not None:
        rows = (dict(zip(resumed.terms, row, strict=True)) for row in resumed.history.tolist())
        history = [Losses.from_row(row) for row in rows]
        snapshots = dict(resumed.snapshots)
        best.copy_(resumed.solver.tensors["best"])
        best_row, earlier = resumed.best, resumed.seconds
        iteration = resumed.solver.numbers["iteration"]
        evaluations = resumed.solver.numbers["evaluations"]
    began = time.perf_counter()

    def seconds() -> float:
        return earlier + time.perf_counter() - began

    def result() -> Result | None:
        if not history:
            return None
        return Result(
            to_pixels(best),
            history[best_row],
            tuple(history),
            iteration,
            evaluations,
            seconds(),
            engine.name,
            str(start.device),
            engine.precision,
            settings,
            {"name": weights.name, "sha256": weights.sha256},
            {k: Image.fromarray(picture.numpy()) for k, picture in snapshots.items()},
            engine.provider,
        )

    def keep_state(iterate: Iterate) -> None:
        assert checkpoints is not None
        rows = [list(losses.to_row().values()) for losses in history]
        names = tuple(history[0].to_row())
        table = torch.tensor(rows, dtype=torch.float64)
        saved = Checkpoint(identity, iterate.state(), table, names, best_row, seconds(), snapshots)
        save_checkpoint(saved, checkpoints.path)

    saved_at = iteration
    at_rest = False  # the solver waits between two iterates, so its state can be saved
    try:
        for last in minimise(
            engine.evaluate,
            start,
            iterations=settings.iterations,
            history_size=settings.history_size,
            optimizer=settings.optimizer,
            resume=None if resumed is None else resumed.solver,
        ):
            at_rest = True
            iteration, evaluations = last.iteration, last.evaluations
            losses = Losses.of(last.evaluation.terms)
            history.append(losses)
            if len(history) == 1 or losses.total < history[best_row].total:
                best_row = len(history) - 1
                best.copy_(last.image)
            if iteration in (0, settings.iterations // 2):
                snapshots.setdefault(iteration, _eight_bits(last.image))
            if callback is not None:
                callback(
                    Step(iteration, settings.iterations, evaluations, losses, seconds(), last.image)
                )
            if checkpoints is not None and iteration - saved_at >= checkpoints.every:
                keep_state(last)
                saved_at = iteration
            at_rest = False
        if (
            checkpoints is not None
            and last is not None
            and (saved_at != iteration or not iteration)
        ):
            keep_state(last)
    except KeyboardInterrupt as interrupt:
        if checkpoints is not None and last is not None and at_rest:
            keep_state(last)
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


def _eight_bits(image: Tensor) -> Tensor:
    """``(1, 3, H, W)`` as ``(H, W, 3)`` uint8 on the CPU."""
    return torch.from_numpy(np.array(to_pil(to_pixels(image))))
