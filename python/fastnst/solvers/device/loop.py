"""The optimisation on a GPU: iterations are launched ahead, and looked at when they are done.

``DeviceLBFGS`` needs the host for nothing. So the host launches a few iterations at a time, each of
them one replayed CUDA graph, and reads meanwhile what the iterations before them left in a ring
buffer: the losses and the picture of each, so that nobody sees less than ``minimise`` shows.

What follows from a loss that was read, another precision, begins with a batch: with the next one
that is not launched yet. It begins there as well where each iterate is waited for, so that the
pictures are the same.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fastnst.evaluation import Evaluation, Terms
from fastnst.solvers.best_so_far import BestSoFar
from fastnst.solvers.device.cuda_graph import CudaGraph
from fastnst.solvers.device.lbfgs import DeviceLBFGS
from fastnst.solvers.device.ring_buffer import Batch, RingBuffer
from fastnst.solvers.iterate import Iterate
from fastnst.solvers.restarts import Restarts, refuse_start
from fastnst.solvers.state import State, restoring

DEVICE_SOLVERS = ("lbfgs", "spectral")  # the optimizers that need no host
BATCH = 5  # iterations launched at a time; the ring buffer has the pictures of two batches


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
    note: Callable[[float], bool] | None = None,
    resume: State | None = None,
) -> Iterator[Iterate]:
    """Do what ``minimise`` does, without fetching a number between two iterations.

    Args:
        evaluate: The objective and its gradient, made by launches alone: the ``launch`` of an
            engine that is ``device_only``.
        start: ``(1, 3, H, W)``, any float dtype and device; it is copied and clamped.
        iterations: How many steps to take. There is no early stopping.
        history_size: How many curvature pairs to keep.
        optimizer: One of ``DEVICE_SOLVERS``.
        low: Smallest value of a pixel.
        high: Largest value of a pixel.
        stepwise: Wait until each iterate was seen before the next one is begun, so that the state
            of any iterate can be had.
        record: Whether ``evaluate`` can be recorded as a CUDA graph; otherwise it is called each
            time.
        note: Takes the totals in their order, each before the second batch after its own, and says
            whether evaluations to come are others (in another precision): they are then recorded
            anew. None: never.
        resume: State of an iterate to go on from, as for ``minimise``.

    Yields:
        The iterates that ``minimise`` yields. Their terms are on the CPU. Their ``state`` can only
        be called with ``stepwise``.

    Raises:
        NonFiniteLoss: where ``minimise`` raises it.
    """
    pairs = max(1, min(history_size, iterations))
    if resume is not None:
        pairs = max(pairs, resume.numbers["history"])
    batch, depth = (1, 1) if stepwise else (BATCH, 2)
    spectral, capacity = optimizer == "spectral", batch * depth
    solver = DeviceLBFGS(start, evaluate, pairs, (low, high), spectral, capacity)
    best, restarts = BestSoFar(solver.image.clone()), Restarts()
    buffer = RingBuffer(solver)
    work = CudaGraph(solver.advance, start.device, record)
    pending: deque[Batch] = deque()
    unseen = 0  # iterates of the batch at hand that were not yielded yet
    iteration = evaluations = launched = 0
    unheard: deque[tuple[int, float]] = deque()  # totals, and the evaluations they are noted before
    failed = False  # whether the last evaluation was not finite

    def state() -> State:
        if pending or unseen:
            raise RuntimeError("the solver has gone on since; this needs stepwise")
        counts = {"iteration": iteration, "evaluations": evaluations, "restarts": restarts.done}
        shown = {"shown_loss": best.loss, "precision": best.precision}
        late = torch.tensor(list(unheard), dtype=torch.float64, device="cpu").view(-1, 2)
        tensors = {"shown": best.image, "unheard": late}
        return State({**counts, **shown}, tensors) | solver.state()

    def anew() -> None:
        """Evaluations to come are in another precision: their losses are not compared."""
        solver.forget_best()
        work.renew()

    def hear(evaluation: int) -> None:
        """Note the totals that are noted before an evaluation."""
        while note is not None and unheard and unheard[0][0] <= evaluation:
            if note(unheard.popleft()[1]):
                anew()

    def seen(values: list[float], image: Tensor, precision: str) -> Iterate:
        terms = _terms(values, solver.layers, image.dtype)
        is_best = best.offer(image, values[0], precision)
        return Iterate(
            *(iteration, evaluations, image, terms, values[0], precision, best.image, is_best),
            state=state,
        )

    if resume is None:
        solver.begin()
        evaluations = launched = 1
        start_batch = buffer.fetch(1)
        ((values, gradient_norm1, image),) = start_batch.read()
        if not (math.isfinite(values[0]) and math.isfinite(gradient_norm1)):
            raise refuse_start()
        if note is not None and note(values[0]):
            anew()
        yield seen(values, image, start_batch.precision)
    else:
        numbers = resume.numbers
        with restoring(resume, lambda: resume):  # with more slots its state may be another
            iteration, evaluations = numbers["iteration"], numbers["evaluations"]
            launched = evaluations
            unheard.extend((int(due), total) for due, total in resume.tensors["unheard"].tolist())
            restarts = Restarts(numbers["restarts"])
            solver.restore(resume)
            # One of before has the solver's own best alone.
            shown = resume.tensors.get("shown", solver.best)
            shown_loss = numbers.get("shown_loss", float(solver.best_loss))
            best.restore(shown, shown_loss, numbers["precision"])
    while iteration < iterations or failed:
        planned = iteration + sum(waiting.count for waiting in pending)
        while len(pending) < depth:
            count = min(batch, iterations - planned) or int(failed and not pending)
            if not count:
                break
            count = min(count, BATCH - (launched - 1) % BATCH)  # not into the next batch
            hear(launched + 1)
            for _ in range(count):
                work()
            launched += count
            pending.append(buffer.fetch(count))
            planned += count
        now = pending.popleft()
        unseen = now.count
        for values, gradient_norm1, image in now.read():
            unseen -= 1
            evaluations += 1
            iteration += not failed  # after a failure the best picture is evaluated again
            failed = not (math.isfinite(values[0]) and math.isfinite(gradient_norm1))
            if failed:
                restarts.begin_again(iteration)
            else:
                unheard.append((_noted_before(evaluations), values[0]))
                yield seen(values, image, now.precision)


def _noted_before(evaluation: int) -> int:
    """The evaluation before which the total of another one is noted.

    Evaluations are counted from 1, the start; batches follow it. Two batches later the total has
    been read.
    """
    return ((evaluation - 2) // BATCH + 2) * BATCH + 2


def _terms(
    values: list[float], layers: tuple[tuple[str, ...], tuple[str, ...]], dtype: torch.dtype
) -> Terms:
    """The terms of an evaluation from their row of the ring buffer."""
    total, *parts = torch.tensor(values, dtype=dtype, device="cpu")
    content, style = layers
    temporal = parts.pop() if len(parts) > len(content) + len(style) + 1 else None
    tv = parts.pop()
    losses = list(zip((*content, *style), parts, strict=True))
    found = dict(losses[: len(content)]), dict(losses[len(content) :])
    return Terms(total, *found, tv, temporal=temporal)
