"""Clocks, and the interleaving that makes two timings comparable on a machine that drifts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.rows import one_line

FLUSH_BYTES = 128 * 2**20


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given; the CPU has nothing to wait for."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def now(device: str) -> float:
    """Seconds on a monotonic clock, read when the device is idle."""
    synchronise(device)
    return time.perf_counter()


def distance(a: Tensor, b: Tensor) -> float:
    """|a − b| / |b| in the Euclidean norm."""
    return float(torch.linalg.vector_norm(a.double() - b) / torch.linalg.vector_norm(b.double()))


@dataclass
class Samples:
    """The timings of one arm, or why there are none.

    Attributes:
        seconds: One for each round.
        error: What stopped it; its timings up to then are not used.
    """

    seconds: list[float] = field(default_factory=list)
    error: str | None = None


class Flusher:
    """Empties the caches between timings, so that inputs come from memory as in a real run."""

    def __init__(self, device: str) -> None:
        self.buffer = torch.zeros(FLUSH_BYTES // 4, device=device)

    def __call__(self) -> None:
        self.buffer.add_(1)


def interleave(
    arms: Mapping[str, Callable[[], object]],
    *,
    device: str,
    rounds: int,
    budget: float = float("inf"),
    least: int = 3,
    warm_up: int = 1,
    between: Callable[[], object] | None = None,
) -> dict[str, Samples]:
    """Time several arms in turn: A B C A B C …

    Args:
        arms: What to time, by name. An arm whose work counts only in part returns the seconds of
            that part as a float; otherwise the whole call is timed.
        device: Where they run; it is idle whenever the clock is read.
        rounds: The number of rounds at most.
        budget: Seconds after which no new round begins, once there were ``least``.
        least: The number of rounds at least, whatever the budget.
        warm_up: Rounds before the first one that counts.
        between: Called before each timing; its time is not counted.

    Returns:
        The samples of each arm. An arm that raises is out, and the others go on.
    """
    samples = {name: Samples() for name in arms}
    began = time.perf_counter()
    for index in range(-warm_up, rounds):
        if index == 0:
            began = time.perf_counter()
        if index >= least and time.perf_counter() - began > budget:
            break
        for name, arm in arms.items():
            if samples[name].error is not None:
                continue
            try:
                if between is not None:
                    between()
                start = now(device)
                own = arm()
                seconds = now(device) - start
            except Exception as error:  # noqa: BLE001 - becomes the error of a row
                samples[name] = Samples(error=one_line(error))
                continue
            if index >= 0:
                samples[name].seconds.append(own if isinstance(own, float) else seconds)
    return samples
