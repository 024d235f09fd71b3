"""What there is of a finished frame of a film, and of the shot that it belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from fastnst.images.pixels import Pixels
from fastnst.run.result import Result
from fastnst.video.flow import Frame


@dataclass(frozen=True)
class Shot:
    """What the frames of one shot are measured by.

    Attributes:
        first: The number of its first frame.
        loss: The loss of that frame.
        style: Its style losses, weighted and added up.
    """

    first: int
    loss: float
    style: float


@dataclass(frozen=True)
class FilmFrame:
    """A finished frame, with all that later frames need of it.

    Attributes:
        frame: The frame of the clip, at the size of the result.
        raw: What the optimisation found, ``(1, 3, H, W)`` float32 on the CPU, before the content's
            colours were put back, if the settings ask for that.
        result: The record of its run: pixels, losses, iterations.
        shot: The shot that it belongs to.
        temporal: t(x), unweighted; None of the first frame of a shot.
        reliable: Share of its pixels that are held to frames before it; 0 of the first of a shot.
        begins: Whether a shot begins with it.
        seconds: How long all of it took: flow, targets, optimisation.
        pass_number: Which pass over the film made it, from 1.
    """

    frame: Frame
    raw: Tensor
    result: Result
    shot: Shot
    temporal: float | None
    reliable: float
    begins: bool
    seconds: float
    pass_number: int = 1

    @property
    def pixels(self) -> Pixels:
        """The finished frame, ``(H, W, 3)`` float32 RGB in [0, 1]."""
        return self.result.pixels

    @property
    def image(self) -> Image.Image:
        """The finished frame as an 8-bit PIL image."""
        return self.result.image

    def to_dict(self) -> dict[str, Any]:
        """The record of the frame: plain values."""
        return {
            "frame": self.frame.index,
            "pass": self.pass_number,
            "time": float(self.frame.time),
            "begins_shot": self.begins,
            "iterations": self.result.iterations,
            "evaluations": self.result.evaluations,
            "seconds": round(self.seconds, 3),
            "loss": self.result.losses.to_dict(),
            "temporal": self.temporal,
            "reliable": round(self.reliable, 4),
            "engine": self.result.engine,
            "precision": self.result.precision,
        }


class Past(NamedTuple):
    """What is kept of a finished frame for those after it.

    Attributes:
        frame: The frame of the clip, at the size of the result.
        image: What the optimisation found, ``(1, 3, H, W)`` float32 on the CPU.
    """

    frame: Frame
    image: Tensor
