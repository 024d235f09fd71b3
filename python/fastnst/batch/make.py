"""How one picture of a batch is made: claimed, computed, saved and noted; or why it failed."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastnst import files
from fastnst.batch.done import fingerprint, is_done
from fastnst.batch.jobs import Job, Outcome
from fastnst.batch.journal import Journal, note
from fastnst.cache import Cache
from fastnst.claims import claim
from fastnst.devices import DEFAULT_SIZE
from fastnst.errors import FastNSTError, InvalidInput, MemoryRanOut, StateRefused
from fastnst.images.outputs import check_output
from fastnst.inputs.sizes import result_size
from fastnst.run.checkpoint import Checkpoints
from fastnst.run.checkpoint_kind import is_checkpoint
from fastnst.run.ending import Unsaved
from fastnst.run.rescue import save_or_rescue
from fastnst.run.resources import UNLIMITED, Resources
from fastnst.run.result import Result
from fastnst.run.run import run
from fastnst.run.schedule import make_schedule
from fastnst.run.step import Step


@dataclass(frozen=True)
class Making:
    """How the pictures of a batch are made, whatever the job.

    Attributes:
        folder: The folder that the journal goes to.
        bits: Bits of a value in the outputs, 8 or 16.
        pyramid: Whether the outputs, TIFF files, hold reduced pictures too.
        checkpoint_every: Iterations between two checkpoints of a run, from which it goes on when
            the batch is started again; 0: none, it begins again.
        resources: What each run may take of the machine.
    """

    folder: Path
    bits: int = 8
    pyramid: bool = False
    checkpoint_every: int = 0
    resources: Resources = UNLIMITED


def make(
    job: Job,
    making: Making,
    journal: Journal,
    cache: Cache,
    listen: Callable[[Step], None],
) -> Outcome | None:
    """Make a picture, unless another batch is at it or has made it.

    Args:
        job: The picture.
        making: How.
        journal: What other batches have made since this one began.
        cache: What the runs of one process share.
        listen: Called after each step.

    Returns:
        What became of the job; None if another batch is making it.
    """
    with claim(job.output) as mine:
        if not mine:
            return None
        if is_done(job, journal.read(), making.bits, making.pyramid):
            return Outcome(job, "elsewhere")
        return _attempt(job, making, cache, listen)


def _attempt(job: Job, making: Making, cache: Cache, listen: Callable[[Step], None]) -> Outcome:
    began = time.perf_counter()
    try:
        size = result_size(job.content, job.settings.size, making.resources.megapixels)
        check_output(job.output, making.bits, size=size, pyramid=making.pyramid)
        # before the run: a file may change while it runs
        made_from = fingerprint(job, making.bits, making.pyramid)
        begin = functools.partial(
            run,
            job.content,
            job.style,
            job.settings,
            listen,
            cache=cache,
            resources=making.resources,
        )
        try:
            result = _run(job, making.checkpoint_every, begin)
        except Unsaved as error:
            whole = iterations(job, making.resources.megapixels)
            if error.result.iterations < whole or job.settings.averaging:
                raise
            result = error.result  # it is finished: only its last checkpoint could not be written
        save_or_rescue(result, job.output, making.bits, making.pyramid)
        note(making.folder, job.output, job.content, job.style, made_from)
        # this run's, or that of an earlier batch, which was to be gone on with
        with contextlib.suppress(OSError):
            checkpoint_path(job.output).unlink()
    except FastNSTError as error:
        seconds = time.perf_counter() - began
        bad = isinstance(error, InvalidInput) and not isinstance(error, MemoryRanOut)
        return Outcome(job, "failed", str(error), seconds=seconds, bad_input=bad)
    except Exception as error:  # noqa: BLE001 - the other jobs may be well
        lines = str(error).splitlines() or [""]
        text = f"{type(error).__name__}: {lines[0]}"
        return Outcome(job, "failed", text, seconds=time.perf_counter() - began)
    return Outcome(job, "done", loss=result.losses.total, seconds=time.perf_counter() - began)


def iterations(job: Job, megapixels: float | None = None) -> int:
    """How many iterations a picture has over all its scales, as far as can be told before.

    Args:
        job: The picture.
        megapixels: As of ``Resources``.
    """
    own = 0
    if job.settings.size == 0 and job.settings.min_size is not None:
        with contextlib.suppress(FastNSTError, OSError):  # making it says what is wrong with it
            own = max(result_size(job.content, 0, megapixels) or (0,))
    size = max(DEFAULT_SIZE.values()) if job.settings.size is None else job.settings.size
    return sum(scale.iterations for scale in make_schedule(job.settings, size, own))


def checkpoint_path(output: Path) -> Path:
    """Where the state of a run is kept for as long as it lasts: a hidden file beside the output."""
    return output.with_name(f".{files.short(output.name)}.checkpoint")


def _drop_damaged(path: Path) -> None:
    """Remove a checkpoint of a batch's own that is none any more: nobody has named it."""
    with contextlib.suppress(FileNotFoundError):
        with path.open("rb") as file:
            head = file.read(files.HEAD)
        if not is_checkpoint(head):
            path.unlink()


def _run(job: Job, checkpoint_every: int, begin: Callable[..., Result]) -> Result:
    """Make a picture, or go on where its checkpoint is; ``begin`` is ``run`` for this job."""
    if not checkpoint_every:
        return begin()
    path = checkpoint_path(job.output)
    _drop_damaged(path)
    go_on = functools.partial(begin, checkpoints=Checkpoints(path, checkpoint_every))
    try:
        return go_on(resume=path if path.exists() else None)
    except StateRefused:  # it is of another run, and written over
        pass  # and no longer held by this error, with all that the run had
    return go_on()
