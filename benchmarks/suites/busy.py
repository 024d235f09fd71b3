"""``busy``: an iteration beside other work on the same processors, and two runs at a time.

Each way runs in a process of its own and is advanced in turn, beside none, one and more processes
that do nothing but keep a processor busy. An iteration is the evaluation and the solver's step, as
a user has it. How many times as long it takes as alone is ``slowdown``; what a fair share of the
processors would make of it is ``fair``.

What a run does by itself about waiting threads (``fastnst.ops.waiting``) stands beside the two
fixed ways: to wait long always, which is what OpenMP does unasked, and to sleep at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks import measure, tables
from benchmarks.contestants import REFERENCE, Contestant, Runner, Task
from benchmarks.options import PAIRS, Options
from benchmarks.rows import Row, ratio, summary
from benchmarks.suite import Case, Suite

OURS = "fastnst"
LONG, BRIEF = {"GOMP_SPINCOUNT": "300000"}, {"OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class Way:
    """A contestant with what it finds in its environment.

    Attributes:
        contestant: What runs.
        environment: Variables of OpenMP; those of this process do not count.
    """

    contestant: Contestant
    environment: Mapping[str, str] = field(default_factory=dict)


WAYS = (
    Way(REFERENCE),
    Way(Contestant(OURS, "fast")),
    Way(Contestant("fastnst waiting long", "fast"), LONG),
    Way(Contestant("fastnst waiting briefly", "fast"), BRIEF),
)


def cases(options: Options) -> list[Case]:
    sizes = options.choose_sizes(full=(256,), quick=(64,))
    return [Case(title, size) for size in sizes for title in (ITERATION, TWO_RUNS)]


ITERATION, TWO_RUNS = "iteration", "two runs"


def measure_case(case: Case, options: Options) -> Iterator[Row]:
    if options.device != "cpu":
        return
    yield from (_iteration if case.title == ITERATION else _two_runs)(case, options)


def busy_counts(options: Options) -> Sequence[int]:
    """How many busy threads there are beside a run: none, one, and as many as processors."""
    processors = os.cpu_count() or 1
    return (0, 1) if options.quick else sorted({0, 1, processors})


def fair(threads: int, busy: int) -> float:
    """How many times as long T threads take on C processors beside k busy threads, at best.

    With T ≤ C threads, T + k of them share the C processors if they are more than these, and each
    has C / (T + k) of one.
    """
    processors = os.cpu_count() or 1
    alone = min(1.0, processors / threads)
    return alone / min(1.0, processors / (threads + busy))


def _iteration(case: Case, options: Options) -> Iterator[Row]:
    ways = [way for way in WAYS if options.wants(way.contestant.name)]
    counts = busy_counts(options)
    rounds, evaluations = options.rounds or 5, 2
    samples: dict[tuple[str, int], list[float]] = {}
    with ExitStack() as stack:
        task = _task(case, options, evaluations, (rounds + 1) * len(counts))
        runners = [stack.enter_context(_runner(way, task)) for way in ways]
        for index in range(-1, rounds):
            for count in counts:
                with busy(count):
                    for runner in runners:
                        seconds = advance(runner) / evaluations
                        if index >= 0:
                            key = runner.contestant.name, count
                            samples.setdefault(key, []).append(seconds)
    for count in counts:
        found = {way.contestant.name: summary(samples[way.contestant.name, count]) for way in ways}
        reference = found.get(REFERENCE.name, {}).get("seconds")
        for name, figures in found.items():
            yield Row(
                "busy",
                f"{ITERATION} beside {count}",
                name,
                options.device,
                "fp32",
                case.size,
                **figures,
                reference_seconds=reference,
                extra={
                    "busy": count,
                    "slowdown": ratio(figures["seconds"], summary(samples[name, 0])["seconds"]),
                    "fair": fair(options.threads, count),
                },
            )


def _two_runs(case: Case, options: Options) -> Iterator[Row]:
    """Seconds for a slice of two runs each: both at once, against one after the other."""
    rounds, evaluations = options.rounds or 5, 2 if options.quick else 4
    ways = [way for way in WAYS[1:] if options.wants(way.contestant.name)]
    for way in ways:
        task = _task(case, options, evaluations, 2 * (rounds + 1))
        with ThreadPoolExecutor(2) as pool, _runner(way, task) as one, _runner(way, task) as other:
            pair = one, other
            arms: dict[str, Callable[[], object]] = {
                "one after the other": partial(_all, map, pair),
                "at once": partial(_all, pool.map, pair),
            }
            samples = measure.interleave(arms, device=options.device, rounds=rounds, least=1)
        in_turn_seconds = summary(samples["one after the other"].seconds)["seconds"]
        for name, found in samples.items():
            yield Row(
                "busy",
                f"{TWO_RUNS} {name}",
                way.contestant.name,
                options.device,
                "fp32",
                case.size,
                **summary(found.seconds),
                reference_seconds=in_turn_seconds,
            )


def _all(
    each: Callable[[Callable[[Runner], float], Sequence[Runner]], Iterable[float]],
    runners: Sequence[Runner],
) -> None:
    """Let all of them do their next slice, one by one or at once, as ``each`` does it."""
    list(each(advance, runners))


def _task(case: Case, options: Options, evaluations: int, slices: int) -> Task:
    content, style = PAIRS[0]
    return Task(
        content,
        style,
        case.size,
        seed=0,
        device=options.device,
        threads=options.threads,
        evaluations=evaluations * slices + 1,  # one more, so that it does not end in a slice
        slice=evaluations,
    )


@contextmanager
def _runner(way: Way, task: Task) -> Iterator[Runner]:
    """A contestant in a process that finds the way's environment, ready to begin."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
                os.environ.pop(name, None)
            os.environ.update(way.environment)
            runner = Runner(way.contestant, task, Path(folder))
        finally:
            os.environ.clear()
            os.environ.update(before)
        try:
            runner.wait()
            yield runner
        finally:
            runner.stop()


def advance(runner: Runner) -> float:
    """Let a contestant do its next slice; the seconds of its own clock.

    Raises:
        RuntimeError: it failed.
    """
    before = runner.points[-1].seconds if runner.points else 0.0
    runner.advance()
    if runner.error is not None:
        raise RuntimeError(f"{runner.contestant.name}: {runner.error}")
    return runner.points[-1].seconds - before


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many threads busy, each of a process of its own, while the context lasts."""
    command = [sys.executable, "-S", "-c", "print(flush=True)\nwhile True: pass"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()  # it has begun
        time.sleep(0.2 if count else 0.0)  # for the system to spread them
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
            assert process.stdout is not None
            process.stdout.close()
            process.wait()


SUITE = Suite(
    "busy",
    "An iteration beside other work on the same processors, and two runs at a time.",
    cases,
    measure_case,
    table=partial(
        tables.plain,
        columns={
            "slowdown": ("times as long as alone", ".2f"),
            "fair": ("at best", ".2f"),
        },
    ),
)
