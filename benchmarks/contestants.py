"""Whole runs in processes of their own, advanced in turn: the reference and fastnst's ways.

Each contestant runs as its users run it, in the main thread of a fresh process, and stops after
every few evaluations until it is told to go on. Its clock counts its own work: evaluations and
solver. It does not count loading, the targets (which all compute), two evaluations to warm up, the
pauses, and what is done here to watch it.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import setups
from benchmarks.measure import now
from benchmarks.rows import one_line
from fastnst import Step, make_settings
from fastnst.run.run import run as stylize

KEPT_BYTES = 2**30  # of pictures on disk, for one contestant


@dataclass(frozen=True)
class Contestant:
    """A way of getting to the same picture.

    Attributes:
        name: The name in the tables.
        preset: A preset of fastnst, or None for the textbook loop.
        settings: What replaces the preset's settings.
    """

    name: str
    preset: str | None = "gatys"
    settings: Mapping[str, Any] = field(default_factory=dict)


REFERENCE = Contestant("reference", preset=None)


@dataclass(frozen=True)
class Task:
    """The same for all contestants.

    Attributes:
        content: Path of a picture, or ``sample:NAME``.
        style: Path of a picture, or ``sample:NAME``.
        size: Long side in pixels.
        seed: Seed of the white noise.
        device: ``cpu`` or ``cuda``.
        threads: CPU threads.
        evaluations: When a contestant ends, if it is not stopped before.
        slice: Evaluations between two pauses.
    """

    content: str
    style: str
    size: int
    seed: int
    device: str
    threads: int
    evaluations: int
    slice: int = 10


@dataclass(frozen=True)
class Point:
    """What a contestant says after an evaluation.

    Attributes:
        evaluation: 1 for the start.
        seconds: The seconds on its clock.
        loss: What it reports: the loss of its own objective at its own precision.
        kept: Whether the picture was saved.
    """

    evaluation: int
    seconds: float
    loss: float
    kept: bool


class Runner:
    """A contestant in its process, seen from outside."""

    def __init__(self, contestant: Contestant, task: Task, folder: Path) -> None:
        self.contestant = contestant
        self.folder = folder
        self.points: list[Point] = []
        self.error: str | None = None
        self.ended = False
        folder.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")
        self.connection, child = context.Pipe()
        self.process = context.Process(
            target=_child, args=(child, contestant, task, str(folder)), daemon=True
        )
        self.process.start()
        child.close()

    def wait(self) -> None:
        """Return when it is ready to begin; before the first ``advance``."""
        self._listen()

    def advance(self) -> None:
        """Let it do its next slice; returns when it pauses, ends or fails."""
        if not self.ended:
            self.connection.send("go")
            self._listen()

    def image(self, evaluation: int) -> NDArray[np.float32]:
        """The picture that was kept at an evaluation, ``(H, W, 3)``."""
        picture: NDArray[np.float32] = np.load(self.folder / f"{evaluation}.npy")
        return picture

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self.ended = True
        self.connection.close()
        self.process.terminate()
        self.process.join()

    def _listen(self) -> None:
        while True:
            try:
                message = self.connection.recv()
            except (EOFError, ConnectionError):
                self.process.join()
                message = RuntimeError(f"its process ended with code {self.process.exitcode}")
            if isinstance(message, Point):
                self.points.append(message)
                continue
            if isinstance(message, Exception):
                self.error = one_line(message)
            if message != "paused":
                self.ended = True
            return


def _child(connection: Connection, contestant: Contestant, task: Task, folder: str) -> None:
    """The life of a contestant's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    torch.set_num_threads(task.threads)
    watch = _Watch(connection, task, Path(folder))
    try:
        if contestant.preset is None:
            _textbook(task, watch)
        else:
            _fastnst(contestant, task, watch)
        connection.send("ended")
    except (EOFError, ConnectionError):
        pass
    except Exception as error:  # noqa: BLE001 - becomes the error of a row
        connection.send(RuntimeError("".join(traceback.format_exception_only(error)).strip()))


class _Watch:
    """Counts evaluations, keeps pictures, and waits for the parent."""

    def __init__(self, connection: Connection, task: Task, folder: Path) -> None:
        self.connection = connection
        self.task = task
        self.folder = folder
        self.evaluations = 0
        self.keep_every = 1

    def ready(self, pixels: int) -> None:
        """Set up; wait for the first "go"."""
        self.keep_every = -(-12 * pixels * self.task.evaluations // KEPT_BYTES)
        self.connection.send("paused")
        self.connection.recv()

    def report(self, seconds: float, loss: float, pixels: Any) -> None:
        """After an evaluation; ``pixels()`` is ``(H, W, 3)`` float32."""
        self.evaluations += 1
        n = self.evaluations
        keep = n % self.keep_every == 0 or n == self.task.evaluations
        if keep:
            np.save(self.folder / f"{n}.npy", pixels())
        self.connection.send(Point(n, seconds, loss, keep))
        if n % self.task.slice == 0 and n < self.task.evaluations:
            self.connection.send("paused")
            self.connection.recv()


def _textbook(task: Task, watch: _Watch) -> None:
    loaded = setups.pictures(task.content, task.style, task.size)
    content, style = loaded.content.to(task.device), loaded.style.to(task.device)
    objective = setups.reference(content, style)
    start = setups.white_noise(content, task.seed)
    warm_up = objective.optimise(start)
    next(warm_up), next(warm_up)
    steps = objective.optimise(start)
    watch.ready(content.shape[-1] * content.shape[-2])
    seconds = 0.0
    for _ in range(task.evaluations):
        began = now(task.device)
        image, loss = next(steps)
        seconds += now(task.device) - began
        watch.report(seconds, loss, lambda x=image: x[0].permute(1, 2, 0).cpu().numpy())


def _fastnst(contestant: Contestant, task: Task, watch: _Watch) -> None:
    common = {
        "size": task.size,
        "seed": task.seed,
        "device": task.device,
        "iterations": task.evaluations - 1,  # one evaluation each, and one at the start
    }
    settings = make_settings(contestant.preset or "", {**common, **contestant.settings})
    paused = 0.0

    def callback(step: Step) -> None:
        nonlocal paused
        # A GPU may be iterations ahead: it must not work while the clock stands still.
        began = now(task.device)
        watch.report(step.seconds - paused, step.losses.total, lambda: step.pixels)
        paused += time.perf_counter() - began

    stylize(task.content, task.style, replace(settings, iterations=1))  # warm-up: two evaluations
    watch.ready(task.size**2)
    stylize(task.content, task.style, settings, callback)


def advance_in_turn(runners: Sequence[Runner]) -> Iterator[None]:
    """One slice each, A B C A B C …; yields after each round until all have ended.

    One that stands in the list twice advances twice in a round.
    """
    for runner in dict.fromkeys(runners):
        runner.wait()
    while any(not runner.ended for runner in runners):
        for runner in runners:
            runner.advance()
        yield
