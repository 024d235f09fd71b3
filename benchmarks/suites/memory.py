"""``memory``: the peak of a whole run, each in a process of its own.

A run's peak is reached when the curvature history is full, after as many evaluations as it keeps
pairs. To get there in seconds, the evaluations in between are replaced by those of a quadratic,
which takes little memory and fills the history all the same; the first two and the last two are
real.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from benchmarks import setups, tables
from benchmarks.options import PAIRS, Options
from benchmarks.processes import begin_peak, in_own_process, peak_bytes
from benchmarks.quadratic import Quadratic
from benchmarks.rows import Row, one_line, ratio
from benchmarks.suite import Case, Suite
from fastnst import Settings, Terms, Weights, minimise
from fastnst.engines.create import create_engine, unavailable_reason
from fastnst.engines.onnx import providers
from fastnst.evaluation import Evaluation
from fastnst.run.solve import runs_on_device
from fastnst.settings.settings import HISTORY_SIZE
from fastnst.solvers.device.loop import minimise_on_device

REAL = 2  # evaluations at either end


@dataclass(frozen=True)
class Task:
    """What a process is to do: the textbook loop, or fastnst with one of its engines."""

    way: setups.Way | None
    size: int
    device: str
    threads: int
    history: int


def cases(options: Options) -> list[Case]:
    full = (512, 1024) if options.device == "cuda" else (256, 512, 1024)
    sizes = options.choose_sizes(full=full, quick=(128, 256))
    return [Case("whole run", size) for size in sizes]


def measure(case: Case, options: Options) -> Iterator[Row]:
    ways = [way for way in setups.engines(options.device) if options.wants(way.name)]
    reference: int | None = None
    for way in (None, *ways):
        name = "reference" if way is None else way.name
        precision = "fp32" if way is None else way.precision
        row = partial(
            Row, "memory", case.title, name, device=options.device, dtype=precision, size=case.size
        )
        task = Task(
            way=way,
            size=case.size,
            device=options.device,
            threads=options.threads,
            history=HISTORY_SIZE,
        )
        reason = None if way is None else _unavailable_reason(way, options.device)
        answer = reason or in_own_process(_child, task)
        if isinstance(answer, str):
            yield row(error=answer)
            continue
        own = answer["peak"] - answer["baseline"]
        if name == "reference":
            reference = own
        yield row(
            peak_bytes=answer["peak"],
            runs=1,
            extra={
                "baseline_bytes": answer["baseline"],
                "own_bytes": own,
                "memory_ratio": ratio(reference, own),
                "history": task.history,
            },
        )


def _unavailable_reason(way: setups.Way, device: str) -> str | None:
    """Why a way cannot run here, as far as it is known without starting a process."""
    if way.engine == "onnx":
        return providers.unavailable_reason(way.provider, torch.device(device))
    return unavailable_reason(way.engine, torch.device(device))


def _child(sender: Connection, task: Task) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    torch.set_num_threads(task.threads)
    try:
        settings = Settings()
        weights = setups.weights(settings.weights, settings.preprocessing)
        loaded = setups.pictures(*PAIRS[0], task.size)
        pictures = [x.to(task.device) for x in (loaded.content, loaded.style, loaded.start)]
        baseline = begin_peak(task.device)
        if task.way is None:
            _textbook(task, *pictures)
        else:
            _fastnst(task, weights, *pictures)
        sender.send({"peak": peak_bytes(task.device), "baseline": baseline})
    except Exception as error:  # noqa: BLE001 - becomes the error of a row
        sender.send(one_line(error))


def _textbook(task: Task, content: Tensor, style: Tensor, start: Tensor) -> None:
    objective = setups.reference(content, style)
    quadratic = Quadratic(start.shape, task.device)
    real = objective.loss
    count = 0

    def loss(image: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if _is_real(count, task.history):
            return real(image)
        return 0.5 * (quadratic.curvature * (image - quadratic.target).square()).sum()

    objective.loss = loss  # type: ignore[method-assign]
    steps = objective.optimise(start)
    for _ in range(_evaluations(task.history)):
        next(steps)


def _fastnst(task: Task, weights: Weights, content: Tensor, style: Tensor, start: Tensor) -> None:
    assert task.way is not None
    settings = Settings(**task.way.settings, device=task.device)
    engine = create_engine(weights, content, style, settings)
    iterations = _evaluations(task.history) - 1
    if runs_on_device(engine, settings):  # recorded once and replayed: real from end to end
        for _ in minimise_on_device(
            engine.evaluate,
            start,
            iterations=iterations,
            history_size=task.history,
            record=engine.capturable,
        ):
            pass
        return
    quadratic = Quadratic(start.shape, task.device)
    count = 0

    def evaluate(image: Tensor) -> Evaluation:
        nonlocal count
        count += 1
        if _is_real(count, task.history):
            return engine.evaluate(image)
        loss, gradient = quadratic(image)
        return Evaluation(Terms(loss, {}, {}, loss), gradient)

    for _ in minimise(evaluate, start, iterations=iterations, history_size=task.history):
        pass


def _evaluations(history: int) -> int:
    return history + 2 + 2 * REAL


def _is_real(count: int, history: int) -> bool:
    return count <= REAL or count > _evaluations(history) - REAL


SUITE = Suite(
    "memory",
    "Peak memory of a run with a full history of 100 pairs, in a process of its own.",
    cases,
    measure,
    table=tables.memory,
)
