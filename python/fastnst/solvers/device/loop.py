"""The optimisation on a GPU: iterations are launched ahead, and looked at when they are done.

``DeviceLBFGS`` needs the host for nothing. So the host launches a few iterations at a time (each of
them one replayed graph) and, while they run, reads what the ones before them left in a ring buffer:
the losses and the picture of every iteration, so that nobody sees less than ``lbfgs.minimise`` shows.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fastnst.errors import NonFiniteLoss
from fastnst.evaluation import Engine, Evaluation, Terms
from fastnst.settings.settings import Settings
from fastnst.solvers.device.cuda_graph import Replayed
from fastnst.solvers.device.lbfgs import DeviceLBFGS
from fastnst.solvers.minimise import RESTARTS
from fastnst.solvers.state import State

BATCH = 5  # iterations launched at a time; the ring buffer has the pictures of two batches


@dataclass(frozen=True)
class DeviceIterate:
    """A picture on the way; see ``lbfgs.Iterate``, whose attributes it has.

    Attributes:
        iteration: 0 for the start, k after k iterations.
        evaluations: How many times the objective was evaluated so far.
        image: ``(1, 3, H, W)``; overwritten once further iterates are asked for.
        terms: The objective at ``image``, on the CPU.
        loss: The total loss, a finite number.
        state: Makes the state from which ``minimise_on_device`` goes on, bit for bit; with
            ``stepwise``, before the next iterate is asked for.
        precision: Of the features that they were computed from.
        averaged: False.
    """

    iteration: int
    evaluations: int
    image: Tensor
    terms: Terms
    loss: float
    state: Callable[[], State]
    precision: str
    averaged: bool = False


def takes(engine: Engine, settings: Settings) -> bool:
    """Whether ``minimise_on_device`` is the way to optimise with this engine and these settings."""
    known = settings.optimizer in ("lbfgs", "spectral") and not settings.averaging
    return known and engine.device_only


def minimise_on_device(
    evaluate: Callable[[Tensor], Evaluation],
    start: Tensor,
    *,
    iterations: int,
    history_size: int = 100,
    optimizer: str = "lbfgs",
    low: float = 0.0,
    high: float = 1.0,
    stepwise: bool = False,
    record: bool = True,
    resume: State | None = None,
) -> Iterator[DeviceIterate]:
    """What ``lbfgs.minimise`` does, without a number fetched in between.

    Args:
        evaluate: The objective and its gradient, with launches alone: an engine's ``evaluate``.
        start: ``(1, 3, H, W)``, any float dtype and device; it is copied and clamped.
        iterations: How many steps to take. There is no early stopping.
        history_size: How many curvature pairs to keep.
        optimizer: ``lbfgs`` or ``spectral``.
        low: Smallest value of a pixel.
        high: Largest value of a pixel.
        stepwise: Wait for each iterate to be seen before the next is begun, so that its state can be
            had.
        record: Whether ``evaluate`` can be recorded as a CUDA graph; otherwise it is called each time.
        resume: State of an iterate to go on from; as for ``lbfgs.minimise``.

    Yields:
        As ``lbfgs.minimise``.

    Raises:
        NonFiniteLoss: likewise.
    """
    pairs = max(1, min(history_size, iterations))
    if resume is not None:
        pairs = max(pairs, resume.numbers["history"])
    spectral = optimizer == "spectral"
    solver = DeviceLBFGS(start, evaluate, pairs, (low, high), spectral)
    batch, depth = (1, 1) if stepwise else (BATCH, 2)
    diary = _Diary(solver, batch * depth)

    def iterate_once() -> None:
        solver.advance()
        diary.write()

    work = Replayed(iterate_once, start.device, record)
    pending: deque[_Batch] = deque()
    iteration = evaluations = restarts = 0
    failed = False

    def state() -> State:
        if pending or ahead:
            raise RuntimeError("the solver has gone on since; this needs stepwise")
        counts = {"iteration": iteration, "evaluations": evaluations, "restarts": restarts}
        return State(counts) | solver.state()

    def seen(values: list[float], image: Tensor) -> DeviceIterate:
        terms = _terms(values, solver, image)
        precision = solver.precision
        return DeviceIterate(iteration, evaluations, image, terms, values[0], state, precision)

    ahead = 0  # iterates of the batch at hand that were not yet seen
    if resume is None:
        solver.begin()
        diary.write()
        evaluations = 1
        ((values, slope, image),) = diary.fetch(1).read()
        if not (math.isfinite(values[0]) and math.isfinite(slope)):
            raise NonFiniteLoss("the loss of the starting picture is not a finite number")
        yield seen(values, image)
    else:
        iteration, evaluations, restarts = (
            resume.numbers[name] for name in ("iteration", "evaluations", "restarts")
        )
        solver.restore(resume)
    while iteration < iterations or failed:
        planned = iteration + sum(waiting.count for waiting in pending)
        while len(pending) < depth:
            count = min(batch, iterations - planned) or int(failed and not pending)
            if not count:
                break
            for _ in range(count):
                work()
            pending.append(diary.fetch(count))
            planned += count
        now = pending.popleft()
        ahead = now.count
        for values, slope, image in now.read():
            ahead -= 1
            evaluations += 1
            iteration += not failed  # after a failure the best picture is evaluated again
            failed = not (math.isfinite(values[0]) and math.isfinite(slope))
            if not failed:
                yield seen(values, image)
            elif restarts == RESTARTS:
                raise NonFiniteLoss(
                    f"the loss became NaN or infinite after {iteration} iterations, "
                    f"and again after {RESTARTS} restarts with smaller steps"
                )
            else:
                restarts += 1


@dataclass(frozen=True)
class _Batch:
    """Iterations that were launched, and what they will have written."""

    slots: tuple[int, ...]
    rows: Tensor
    images: Tensor
    done: torch.cuda.Event | None

    @property
    def count(self) -> int:
        return len(self.slots)

    def read(self) -> Iterator[tuple[list[float], float, Tensor]]:
        """Terms, |gradient|₁ and picture of each; waits until they are there."""
        if self.done is not None:
            self.done.synchronize()
        for slot in self.slots:
            *values, slope = self.rows[slot].tolist()
            yield values, slope, self.images[slot : slot + 1]


class _Diary:
    """The last evaluations in a ring buffer on the device.

    Args:
        solver: Whose.
        capacity: How many, at least as many as are launched before they are read.
    """

    def __init__(self, solver: DeviceLBFGS, capacity: int) -> None:
        self.solver = solver
        image = solver.image
        self.images = image.new_empty(capacity, *image.shape[1:])
        self.rows = image.new_empty(capacity, 0, dtype=torch.float64)
        self.slot = torch.zeros(1, dtype=torch.long, device=image.device)
        self.fetched = 0

    def write(self) -> None:
        """Note the last evaluation, on the device."""
        row = torch.cat([self.solver.terms, self.solver.slope[None]])
        if not self.rows.numel():
            self.rows = row.new_empty(len(self.rows), len(row))
        self.rows.index_copy_(0, self.slot, row[None])
        self.images.index_copy_(0, self.slot, self.solver.image)
        self.slot.add_(1).remainder_(len(self.rows))

    def fetch(self, count: int) -> _Batch:
        """The next so many that were written; the copy to the host is only launched."""
        slots = tuple((self.fetched + i) % len(self.rows) for i in range(count))
        self.fetched += count
        on_gpu = self.rows.device.type == "cuda"
        rows = self.rows.to("cpu", non_blocking=on_gpu, copy=True)
        done = torch.cuda.current_stream(self.rows.device).record_event() if on_gpu else None
        return _Batch(slots, rows, self.images, done)


def _terms(values: list[float], solver: DeviceLBFGS, image: Tensor) -> Terms:
    total, *parts, tv = torch.tensor(values, dtype=image.dtype, device="cpu")
    content, style = solver.layers
    by_layer = zip((*content, *style), parts, strict=True)
    losses = list(by_layer)
    return Terms(total, dict(losses[: len(content)]), dict(losses[len(content) :]), tv)
