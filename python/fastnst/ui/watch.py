"""A run seen from elsewhere: its newest picture, a way to stop it, and word of how it ended."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from statistics import fmean

from fastnst.images.pixels import Pixels, resize, scaled_size
from fastnst.run.losses import Losses
from fastnst.run.step import Step

SHOWN = 1024  # long side of a frame in pixels, at most
FILM = 24  # the last finished frames of a film, that are shown beside the one at hand
SMALL = 160  # long side of one of them in pixels, at most
_GONE = 3.0  # seconds without a look, after which nobody is taken to look


@dataclass(frozen=True)
class Frame:
    """What there is to see of a run.

    Attributes:
        pixels: ``(H, W, 3)`` float32, RGB in [0, 1]; reduced to ``SHOWN`` pixels.
        iteration: After which this is the picture.
        iterations: How many there will be.
        seconds: Since the optimisation began.
        history: The objective at each evaluation so far.
    """

    pixels: Pixels
    iteration: int
    iterations: int
    seconds: float
    history: tuple[Losses, ...]


class Watch:
    """The newest frame of a run, for those who look at it, and a way to stop the run.

    Its method ``hear`` is the callback of the run; it keeps a picture only when one was asked for.

    Attributes:
        stopping: Whether the run was asked to stop.
        ended: How the run ended, in one line for the page; None: it has not.
        film: The last finished frames of a film, oldest first, small; none of a picture.
        finished: How many frames of a film are finished.
        frames: How many it will have; None: that is not known, or it is no film.
        unit: What its parts are called; those of a contact sheet are pictures.
        pace: Seconds a frame takes, without the first where there are more; None: not known yet.
    """

    def __init__(self) -> None:
        self.stopping = False
        self.ended: str | None = None
        self.film: deque[Pixels] = deque(maxlen=FILM)
        self.finished = 0
        self.frames: int | None = None
        self.unit = "frame"
        self.pace: float | None = None
        self._paces: list[float] = []
        self._wanted = True
        self._history: list[Losses] = []
        self._frame: Frame | None = None
        self._looked = -_GONE
        self._end_seen = threading.Event()

    def hear(self, step: Step) -> None:
        """Take note of a step; raises KeyboardInterrupt if the run is to stop."""
        if step.iteration == 0:
            self._history.clear()
        self._history.append(step.losses)
        if self._wanted:
            self._wanted = False
            self._frame = Frame(
                step.reduced(SHOWN),
                *(step.iteration, step.iterations, step.seconds),
                tuple(self._history),
            )
        if self.stopping:
            raise KeyboardInterrupt

    def finish_frame(self, pixels: Pixels, seconds: float | None = None) -> None:
        """Take note of a finished frame of a film.

        Args:
            pixels: ``(H, W, 3)`` float32, RGB in [0, 1].
            seconds: How long it took; None: it was there already.
        """
        height, width, _ = pixels.shape
        longest = SMALL if max(height, width) > SMALL else 0
        self.film.append(resize(pixels, *scaled_size(width, height, longest)))
        self.finished += 1
        if seconds is not None:
            self._paces.append(seconds)
            self.pace = fmean(self._paces[1:] or self._paces)

    def frame(self) -> Frame | None:
        """The newest frame; asks for another."""
        self._wanted = True
        self._looked = time.monotonic()
        if self.ended is not None:
            self._end_seen.set()
        return self._frame

    def stop(self) -> None:
        """End the run after the iteration at hand."""
        self.stopping = True

    def forget(self) -> None:
        """Drop the pictures of a run that has ended and is shown otherwise."""
        self._frame = None
        self.film.clear()

    def end(self, text: str) -> None:
        """Say how the run ended, and wait a moment until those who look have seen it."""
        self.ended = text
        if time.monotonic() - self._looked < _GONE and self._end_seen.wait(_GONE):
            time.sleep(0.5)  # until the answer has left
