"""Runs in threads of their own, watched and stopped from elsewhere."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from fastnst.cache import Cache
from fastnst.errors import FastNSTError, InvalidInput
from fastnst.images.decode import SAMPLE_PREFIX, open_image
from fastnst.images.pixels import Pixels
from fastnst.run.checkpoint import Checkpoints
from fastnst.run.result import Interrupted, Losses, Result, Step
from fastnst.run.run import run
from fastnst.settings.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """What there is to see of a run.

    Attributes:
        pixels: ``(H, W, 3)`` float32, RGB in [0, 1].
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
    """

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._wanted.set()
        self._stop = threading.Event()
        self._history: list[Losses] = []
        self._frame: Frame | None = None

    def hear(self, step: Step) -> None:
        """Take note of a step; raises KeyboardInterrupt if the run is to stop."""
        if step.iteration == 0:
            self._history.clear()
        self._history.append(step.losses)
        if self._wanted.is_set():
            self._wanted.clear()
            self._frame = Frame(
                step.pixels, step.iteration, step.iterations, step.seconds, tuple(self._history)
            )
        if self._stop.is_set():
            raise KeyboardInterrupt

    def frame(self) -> Frame | None:
        """The newest frame, and the wish for another."""
        self._wanted.set()
        return self._frame

    def stop(self) -> None:
        """End the run after the iteration at hand."""
        self._stop.set()


class Job(Watch):
    """A run in a thread.

    Args:
        content: As for ``stylize``.
        style: As for ``stylize``.
        settings: Of the run.
        kept: What runs share. Two runs must not use it at the same time.
        checkpoint: Where the state goes if the run is stopped.
        resume: A checkpoint to go on from.
    """

    def __init__(
        self,
        content: str,
        style: str,
        settings: Settings,
        kept: Cache,
        checkpoint: Path,
        resume: Path | None = None,
    ) -> None:
        super().__init__()
        self.content, self.style, self.checkpoint = content, style, checkpoint
        self.result: Result | None = None
        self.stopped = False
        self.error: Exception | None = None

        def work() -> None:
            # every so many iterations: never; the state is for a run that is stopped
            states = Checkpoints(checkpoint, settings.iterations + 1)
            try:
                self.result = run(
                    content,
                    style,
                    settings,
                    self.hear,
                    checkpoints=states,
                    resume=resume,
                    cache=kept,
                )
            except Interrupted as interrupt:
                self.stopped = True
                self.result = interrupt.result
            except Exception as error:  # noqa: BLE001 - it is shown to the one who asked
                self.error = error
                if not isinstance(error, FastNSTError):
                    _log.exception("a run failed")
                self.result = getattr(error, "result", None)

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the run, but no longer; whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()


def check_upload(path: str | None, label: str, megapixels: float) -> str:
    """A picture that a visitor gave, before it is decoded.

    Raises:
        InvalidInput: if there is none, or it has more pixels than are allowed.
    """
    if not path:
        raise InvalidInput(f"choose a {label} picture first")
    if path.startswith(SAMPLE_PREFIX):
        return path
    try:
        with open_image(path) as image:
            pixels = image.width * image.height
    except InvalidInput as error:
        reason = str(error).replace(str(Path(path)), f"the {label} picture")
        raise InvalidInput(reason) from error
    if pixels > megapixels * 1e6:
        raise InvalidInput(
            f"the {label} picture has {pixels / 1e6:.0f} megapixels; {megapixels:g} are allowed"
        )
    return path


def explain(job: Job) -> str:
    """What went wrong, in one line for a visitor, who need not know the server's paths."""
    if not isinstance(job.error, FastNSTError):
        return "the run failed on the server; its log says why"
    text = str(job.error).replace(f"checkpoint {job.checkpoint}", "the stopped run")
    for path in (job.content, job.style):
        text = text.replace(path, Path(path).name)
    return text
