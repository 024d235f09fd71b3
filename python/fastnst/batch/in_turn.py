"""The pictures of a batch, one after the other in one process.

Everything that a batch leaves is in the output folder: the pictures, put in place when they are
whole, and the journal, which says from what they were made and with which settings. A batch that
was killed is started again with the same command and goes on where it was.

Several batches may work on one folder, also on several machines: each claims a picture before it
makes it, and at the end waits for those that others are making, or makes them if the others die.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastnst.batch.jobs import Job, Outcome, check_jobs
from fastnst.batch.journal import Journal, journal_size
from fastnst.batch.make import Making, make
from fastnst.cache import Cache
from fastnst.run.resources import UNLIMITED, Resources
from fastnst.run.step import Step

PAUSE = 1.0  # seconds between two looks at pictures that other batches are making


@dataclass(frozen=True)
class Progress:
    """What a callback hears after each step.

    Attributes:
        index: The number of the job, from 0.
        job: The job at hand.
        step: The step of its run.
    """

    index: int
    job: Job
    step: Step


def run_batch(
    jobs: Sequence[Job],
    folder: Path,
    *,
    bits: int = 8,
    pyramid: bool = False,
    checkpoint_every: int = 0,
    callback: Callable[[Progress], None] | None = None,
    resources: Resources = UNLIMITED,
    since: int | None = None,
) -> Iterator[Outcome]:
    """Make the pictures one after the other.

    The network, its transformed filters and the targets of styles are kept between them. A picture
    that another batch is making at the time is left to it; at the end this one waits for it.

    Args:
        jobs: What to make.
        folder: The folder that the journal goes to.
        bits: Bits of a value in the outputs, 8 or 16.
        pyramid: Whether the outputs, TIFF files, hold reduced pictures too.
        checkpoint_every: Iterations between two checkpoints of a run, from which it goes on when
            the batch is started again; 0: none, it begins again.
        callback: Called after each step; an exception ends the batch.
        resources: What each run may take of the machine.
        since: ``journal_size`` of the folder when the jobs were chosen: what other batches make
            after that is not made again. None: what it is now.

    Yields:
        What became of each job, as soon as it is known. A job that fails does not stop the others.

    Raises:
        InvalidInput: as ``check_jobs`` does, before the first job.
        Interrupted: on Ctrl-C; the pictures done until then are done.
    """
    check_jobs(jobs, bits, pyramid)
    making = Making(folder, bits, pyramid, checkpoint_every, resources)
    journal = Journal(folder, journal_size(folder) if since is None else since)
    cache = Cache()
    waiting = list(enumerate(jobs))
    while waiting:
        busy = []
        for index, job in waiting:

            def listen(step: Step, index: int = index, job: Job = job) -> None:
                if callback is not None:
                    callback(Progress(index, job, step))

            outcome = make(job, making, journal, cache, listen)
            if outcome is None:
                busy.append((index, job))
            else:
                yield outcome
        if len(busy) == len(waiting):
            time.sleep(PAUSE)
        waiting = busy
