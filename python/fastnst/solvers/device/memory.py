"""What an iteration of L-BFGS reads and writes on a device, and which number stands where."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Places in ``numbers``, ``flags`` and ``counters``: the enumerations of csrc/fastnst.h.
GAMMA, STEP_SCALE, SLOPE, BEST_LOSS, ALONG, SQUARE = range(6)
FRESH, FAILED, ACCEPTED, BETTER = range(4)
SLOT, USED, EVALUATIONS = range(3)


class SolverMemory:
    """The tensors of an iteration, all of them on one device and never moved.

    Args:
        start: ``(1, 3, H, W)``, float; it is copied and clamped.
        history_size: m, curvature pairs to keep.
        bounds: Smallest and largest value of a pixel.
        capacity: Evaluations that the ring buffer holds.

    Attributes:
        image: ``(1, 3, H, W)``, where the last evaluation was made.
        best: The picture with the lowest loss so far.
        gradient: ``(n,)``, g at ``image``.
        step: ``(n,)``, s: how ``image`` was reached.
        change: ``(n,)``, y: how the gradient changed on the way.
        direction: ``(n,)``, −H g and what it is made of.
        numbers: ``(6,)`` float64: γ, the step scale, |g|₁, the lowest loss, s·y and y·y.
        flags: ``(4,)`` bool: no step was taken since L-BFGS started (afresh); the last evaluation
            was not finite; its pair was taken; it is the best.
        counters: ``(3,)`` int64: where the next pair goes; pairs in use; steps made so far.
        inverse: ``(m, m)`` float64, R⁻¹ by slot.
        diagonal: ``(m,)`` float64, D: s·y by slot.
        products: ``(m,)`` float64, S g by slot.
        row: ``(T,)`` float64: the last evaluation; total, content and style losses, variation.
        ring_images: ``(capacity, 3, H, W)``, the pictures of the last evaluations.
        ring_rows: ``(capacity, T + 1)`` float64, their losses and |g|₁.
    """

    def __init__(
        self, start: Tensor, history_size: int, bounds: tuple[float, float], capacity: int
    ) -> None:
        self.bounds = bounds
        self.capacity = capacity
        self.history_size = history_size
        self.image = start.detach().clone(memory_format=torch.contiguous_format).clamp_(*bounds)
        self.best = self.image.clone()
        n, m, device = start.numel(), history_size, start.device
        self.gradient, self.step, self.change, self.direction = (
            start.new_zeros(n) for _ in range(4)
        )
        self.numbers = torch.zeros(6, dtype=torch.float64, device=device)
        self.numbers[STEP_SCALE] = 1
        self.numbers[BEST_LOSS] = math.inf
        self.flags = torch.zeros(4, dtype=torch.bool, device=device)
        self.flags[FRESH] = True
        self.counters = torch.zeros(3, dtype=torch.long, device=device)
        self.inverse = torch.zeros(m, m, dtype=torch.float64, device=device)
        self.diagonal, self.products, self.u = (
            torch.zeros(m, dtype=torch.float64, device=device) for _ in range(3)
        )
        self.row = torch.zeros(0, dtype=torch.float64, device=device)
        self.ring_images = start.new_empty(capacity, *start.shape[1:])
        self.ring_rows = torch.zeros(capacity, 0, dtype=torch.float64, device=device)

    def expect_terms(self, count: int) -> None:
        """Make room for so many terms of an evaluation, where there is not."""
        if len(self.row) != count:
            self.row = self.row.new_zeros(count)
            self.ring_rows = self.ring_rows.new_zeros(self.capacity, count + 1)
