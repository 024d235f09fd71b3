"""The last evaluations of a solver on the device, and how the host reads them without waiting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fastnst.solvers.device.lbfgs import DeviceLBFGS


@dataclass(frozen=True)
class Batch:
    """Iterations that were launched, and what they will have written.

    Attributes:
        slots: Their slots of the ring buffer, in order.
        rows: ``(capacity, T + 1)`` float64 on the CPU: terms and ‖g‖₁, by slot.
        images: ``(capacity, 3, H, W)`` on the device, by slot.
        done: When ``rows`` can be read; None: at once.
        precision: The precision of the features in all of them.
    """

    slots: tuple[int, ...]
    rows: Tensor
    images: Tensor
    done: torch.cuda.Event | None
    precision: str

    @property
    def count(self) -> int:
        """How many iterations there are."""
        return len(self.slots)

    def read(self) -> Iterator[tuple[list[float], float, Tensor]]:
        """The terms, ‖g‖₁ and the picture of each iteration; waits until they are there."""
        if self.done is not None:
            self.done.synchronize()
        for slot in self.slots:
            *values, gradient_norm1 = self.rows[slot].tolist()
            yield values, gradient_norm1, self.images[slot : slot + 1]


class RingBuffer:
    """What the host reads of the losses and pictures that a solver notes on the device.

    Args:
        solver: The solver; its ``memory`` holds the ring.
    """

    def __init__(self, solver: DeviceLBFGS) -> None:
        self.solver = solver
        self.fetched = 0

    def fetch(self, count: int) -> Batch:
        """The next ``count`` evaluations; their copy to the host is only launched."""
        memory = self.solver.memory
        slots = tuple((self.fetched + i) % memory.capacity for i in range(count))
        self.fetched += count
        on_gpu = memory.ring_rows.device.type == "cuda"
        rows = memory.ring_rows.to("cpu", non_blocking=on_gpu, copy=True)
        done = torch.cuda.current_stream(memory.image.device).record_event() if on_gpu else None
        return Batch(slots, rows, memory.ring_images, done, self.solver.precision)
