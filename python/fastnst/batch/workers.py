"""Several pictures of a batch at a time on one machine, each worker a process of its own.

The process that runs the batch hands its workers one picture after the other over a pipe, and hears
of their steps. A worker that dies is replaced, and the picture that it was making is made again. If
the batch dies, its workers see the end of their pipes and end at once.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

import torch

from fastnst.batch.in_turn import PAUSE
from fastnst.batch.jobs import Job, Outcome, check_jobs
from fastnst.batch.journal import Journal, journal_size
from fastnst.batch.make import Making, make
from fastnst.cache import Cache
from fastnst.claims import claim
from fastnst.devices import choose_device, gpus, take_turn, turns
from fastnst.run.available import available
from fastnst.run.step import Step

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

TRIES = 2  # workers that may die of a picture before it counts as failed
SIGNALS = (
    "SIGINT",
    "SIGTERM",
    "SIGHUP",
    "SIGUSR1",
    "SIGUSR2",
)  # which the process that runs the batch answers


@dataclass(frozen=True)
class Report:
    """What a callback hears after each step of a worker.

    Attributes:
        index: The number of the job, from 0.
        iteration: 0 for the start, k after k iterations.
        loss: The total loss at the picture of this step.
    """

    index: int
    iteration: int
    loss: float


@dataclass(frozen=True)
class _Task:
    index: int
    job: Job


@dataclass(frozen=True)
class _Busy:
    """Another batch is making the picture."""


_Message = Report | Outcome | _Busy


def run_in_workers(
    jobs: Sequence[Job],
    making: Making,
    workers: int,
    *,
    threads: int | None = None,
    since: int | None = None,
    callback: Callable[[Report], None] | None = None,
    late: Callable[[Outcome], None] | None = None,
    part: int = 0,
    parts: int = 1,
) -> Iterator[Outcome]:
    """Make the pictures of a batch, several at a time.

    The workers share the threads and, where no limit is given, the memory that is free. They take
    the machine's GPUs in turn.

    Args:
        jobs: What to make.
        making: How; ``resources.memory`` is for all workers together.
        workers: How many processes.
        threads: How many threads for all of them together, at least one each; None: as many as
            PyTorch takes by itself.
        since: As for ``run_batch``.
        callback: Called after each step of each worker; an exception ends the batch.
        late: Called with what became of a job while the batch was being ended.
        part: The number of this process, from 0, among those of the machine that have such workers.
        parts: How many there are: what is free, and the GPUs, are for all their workers.

    Yields:
        What became of each job, in the order in which they end.

    Raises:
        InvalidInput: as ``check_jobs`` does, before the first job.
        BackendUnavailable: if the first job's device cannot be used.
    """
    check_jobs(jobs, making.bits, making.pyramid)
    if not jobs:
        return
    since = journal_size(making.folder) if since is None else since
    workers = min(workers, len(jobs))
    limit = making.resources.memory
    device, sharing = choose_device(jobs[0].settings.device), workers
    if limit is None:
        limit, sharing = available(device), turns(parts * workers, device)
    share = None if limit is None else max(1, limit // sharing)
    making = replace(making, resources=replace(making.resources, memory=share))
    shares = shared_out(torch.get_num_threads() if threads is None else threads, workers)
    first = part * workers if gpus(device) > 1 else None
    crew = _Crew(making, since, shares, first)
    try:
        yield from crew.make(jobs, callback)
    finally:
        crew.end(late)


def shared_out(threads: int, workers: int) -> list[int]:
    """How many threads each worker has: together so many, but at least one each."""
    each, rest = divmod(threads, workers)
    return [max(1, each + (number < rest)) for number in range(workers)]


class _Worker:
    """A process that makes pictures, as the process that runs the batch sees it."""

    def __init__(self, making: Making, since: int, threads: int, number: int | None) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.task: _Task | None = None
        self.threads, self.number = threads, number
        self.process: SpawnProcess = context.Process(
            target=_work, args=(theirs, making, since, threads, number), daemon=True
        )
        with _signals_wait():
            self.process.start()
        theirs.close()

    def give(self, task: _Task) -> None:
        self.task = task
        with contextlib.suppress(OSError):  # it has died: its end is seen soon
            self.pipe.send(task)

    def ended(self) -> str:
        """How the process ended, for people."""
        self.process.join()
        code = self.process.exitcode or 0
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


class _Crew:
    """The workers of a batch.

    Args:
        making: How pictures are made, by each of them.
        since: Where the journal ended when the batch began.
        shares: The threads of each.
        first: The number of the first where they take one GPU after the other, or None.
    """

    def __init__(
        self, making: Making, since: int, shares: Sequence[int], first: int | None
    ) -> None:
        self.making, self.since = making, since
        self.workers = [
            _Worker(making, since, threads, None if first is None else first + number)
            for number, threads in enumerate(shares)
        ]

    def make(
        self, jobs: Sequence[Job], callback: Callable[[Report], None] | None
    ) -> Iterator[Outcome]:
        waiting = deque(_Task(index, job) for index, job in enumerate(jobs))
        busy: list[_Task] = []  # other batches are making them
        again = 0.0  # when to look at those next
        died: Counter[int] = Counter()
        while waiting or busy or any(worker.task for worker in self.workers):
            if busy and not waiting and time.monotonic() >= again:
                waiting.extend(busy)
                busy.clear()
                again = time.monotonic() + PAUSE
            for worker in self.workers:
                if worker.task is None and waiting:
                    worker.give(waiting.popleft())
            timeout = PAUSE if busy else None
            ready = wait([worker.pipe for worker in self.workers], timeout)
            for worker in [worker for worker in self.workers if worker.pipe in ready]:
                task = worker.task
                try:
                    message: _Message = worker.pipe.recv()
                except (EOFError, OSError):
                    why = worker.ended()
                    self._replace(worker)
                    if task is None:
                        continue
                    died[task.index] += 1
                    if died[task.index] < TRIES:
                        waiting.appendleft(task)
                    else:
                        _drop_claim(task)
                        yield Outcome(task.job, "failed", f"the process that made it {why}")
                    continue
                if isinstance(message, Report):
                    if callback is not None:
                        callback(message)
                    continue
                worker.task = None
                if isinstance(message, Outcome):
                    yield message
                elif task is not None:
                    busy.append(task)

    def _replace(self, worker: _Worker) -> None:
        worker.pipe.close()
        fresh = _Worker(self.making, self.since, worker.threads, worker.number)
        self.workers[self.workers.index(worker)] = fresh

    def end(self, late: Callable[[Outcome], None] | None) -> None:
        """Let each worker finish the iteration that it is in, or the picture, and go."""
        for worker in self.workers:
            with contextlib.suppress(OSError):
                worker.pipe.send(None)
        for worker in self.workers:
            for message in _rest(worker.pipe):  # until it goes: a full pipe would hold it
                if isinstance(message, Outcome) and late is not None:
                    late(message)
            worker.process.join()
            worker.pipe.close()
            if worker.task is not None:
                _drop_claim(worker.task)


def _rest(pipe: Connection) -> Iterator[_Message]:
    """What still comes through a pipe until its other end is closed."""
    with contextlib.suppress(OSError, EOFError):
        while True:
            message: _Message = pipe.recv()
            yield message


def _drop_claim(task: _Task) -> None:
    """What a worker that is gone left of its claim goes."""
    with claim(task.job.output):
        pass


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """A process that is started meanwhile never hears of signals that the batch answers."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # or its start would let the signals through
    numbers = {getattr(signal, name) for name in SIGNALS}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection, making: Making, since: int, threads: int, number: int | None) -> None:
    """What a worker does: one picture after the other, until it is told to go."""
    torch.set_num_threads(threads)
    if number is not None:
        take_turn(number)
    tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
    inbox = _Inbox(pipe, tasks)
    threading.Thread(target=inbox.read, daemon=True).start()
    journal, cache = Journal(making.folder, since), Cache()
    while (task := tasks.get()) is not None:

        def listen(step: Step, task: _Task = task) -> None:
            inbox.painting = True
            if inbox.told_to_go:
                raise KeyboardInterrupt
            pipe.send(Report(task.index, step.iteration, float(step.losses.total)))

        try:
            outcome = make(task.job, making, journal, cache, listen)
        except KeyboardInterrupt:
            return
        pipe.send(_Busy() if outcome is None else outcome)
        inbox.painting = False


class _Inbox:
    """Reads what a worker is told, in a thread of its own, for what cannot wait.

    Attributes:
        painting: Whether a picture has steps already: then the iteration at hand is finished before
            the process ends.
        told_to_go: Whether it is to end.
    """

    def __init__(self, pipe: Connection, tasks: queue.SimpleQueue[_Task | None]) -> None:
        self.pipe, self.tasks = pipe, tasks
        self.painting = False
        self.told_to_go = False

    def read(self) -> None:
        while True:
            try:
                task: _Task | None = self.pipe.recv()
            except (EOFError, OSError):  # the batch has died
                os._exit(1)
            self.tasks.put(task)
            if task is None:
                self.told_to_go = True
                if not self.painting:
                    os._exit(0)
