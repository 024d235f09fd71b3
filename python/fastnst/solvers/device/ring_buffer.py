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
    """

    slots: tuple[int, ...]
    rows: Tensor
    images: Tensor
    done: torch.cuda.Event | None

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
    """The losses and pictures of the last evaluations, on the device.

    Args:
        solver: The solver whose evaluations are noted.
        capacity: How many there is room for, at least as many as are launched before they are read.
    """

    def __init__(self, solver: DeviceLBFGS, capacity: int) -> None:
        self.solver = solver
        image = solver.image
        self.images = image.new_empty(capacity, *image.shape[1:])
        self.rows = image.new_empty(capacity, 0, dtype=torch.float64)
        self.slot = torch.zeros(1, dtype=torch.long, device=image.device)
        self.fetched = 0

    def write(self) -> None:
        """Note the last evaluation; on a GPU this is only launched."""
        row = torch.cat([self.solver.terms, self.solver.gradient_norm1[None]])
        if not self.rows.numel():
            self.rows = row.new_empty(len(self.rows), len(row))
        self.rows.index_copy_(0, self.slot, row[None])
        self.images.index_copy_(0, self.slot, self.solver.image)
        self.slot.add_(1).remainder_(len(self.rows))

    def fetch(self, count: int) -> Batch:
        """The next ``count`` evaluations; their copy to the host is only launched."""
        slots = tuple((self.fetched + i) % len(self.rows) for i in range(count))
        self.fetched += count
        on_gpu = self.rows.device.type == "cuda"
        rows = self.rows.to("cpu", non_blocking=on_gpu, copy=True)
        done = torch.cuda.current_stream(self.rows.device).record_event() if on_gpu else None
        return Batch(slots, rows, self.images, done)
