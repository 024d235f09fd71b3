"""The arithmetic of an L-BFGS iteration on a device, in two ways that answer one contract.

``TorchSteps`` is written in PyTorch's operators, for any float dtype and device. ``KernelSteps`` is
the same in ten kernels of csrc/cuda, with the curvature pairs in eight bits. Both work in fixed
memory, fetch no number and take no branch of the host's.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from fastnst.ops import device as kernels
from fastnst.ops import sums
from fastnst.solvers.curvature import CURVATURE
from fastnst.solvers.device.memory import (
    ACCEPTED,
    ALONG,
    BEST_LOSS,
    EVALUATIONS,
    FAILED,
    FRESH,
    GAMMA,
    SLOT,
    STEP_SCALE,
    USED,
    SolverMemory,
)
from fastnst.solvers.projected import FIRST_STEP, LONGEST_STEP
from fastnst.solvers.restarts import SHRINKAGE


class Steps(Protocol):
    """What an iteration is made of; see ``DeviceLBFGS`` for the order."""

    def take(self, found: Tensor, losses: Tensor) -> None:
        """Take in the evaluation at ``image``: the gradient ``(n,)`` and the terms ``(T,)``."""
        ...

    def first(self, *, scaled: bool) -> None:
        """direction ← g − Yᵀu with u = R⁻¹ S g, times γ where ``scaled``."""
        ...

    def second(self) -> None:
        """From z in ``direction``: −(z + Sᵀt) with t = R⁻ᵀ(D u − Y z), and the step along it."""
        ...

    def rows(self) -> dict[str, Tensor]:
        """The curvature pairs as they are kept; the slots are their second dimension."""
        ...


def choose(memory: SolverMemory) -> Steps:
    """The kernels where they run, otherwise PyTorch's operators."""
    image = memory.image
    if image.dtype == torch.float32 and kernels.unavailable_reason(image.device) is None:
        return KernelSteps(memory)
    return TorchSteps(memory)


class TorchSteps:
    """An iteration in PyTorch's operators.

    Args:
        memory: The tensors that it reads and writes.
    """

    def __init__(self, memory: SolverMemory) -> None:
        self.memory = memory
        n, m = memory.gradient.numel(), memory.history_size
        self.pairs = memory.gradient.new_zeros(2, m, n)  # S and Y, by slot
        self.slots = torch.arange(m, device=memory.image.device)

    def rows(self) -> dict[str, Tensor]:
        """S and Y, ``(1, m, n)`` each."""
        return {"s": self.pairs[:1], "y": self.pairs[1:]}

    def take(self, found: Tensor, losses: Tensor) -> None:
        """Take in the evaluation at ``image``."""
        m = self.memory
        torch.sub(found, m.gradient, out=m.change)
        m.gradient.copy_(found)
        m.row.copy_(losses)
        slope = sums.norm1(m.gradient)
        along = sums.dot(m.step, m.change)
        square = sums.squared_norm(m.change)
        lengths = sums.norm2(m.step) * square.sqrt()
        failed = ~(torch.isfinite(m.row[0]) & torch.isfinite(slope))
        fresh = m.flags[FRESH] | failed
        accept = ~fresh & (along > CURVATURE * lengths)
        better = ~failed & (m.row[0] < m.numbers[BEST_LOSS])
        scale = torch.where(failed, m.numbers[STEP_SCALE] / SHRINKAGE, m.numbers[STEP_SCALE])
        first = (FIRST_STEP * scale * m.image.numel() / slope).masked_fill(slope == 0, 0)
        newest = torch.where(accept, along / square, m.numbers[GAMMA])
        gamma = torch.where(fresh, first, newest)
        lowest = torch.where(better, m.row[0], m.numbers[BEST_LOSS])
        m.numbers.copy_(torch.stack([gamma, scale, slope, lowest, along, square]))
        m.flags.copy_(torch.stack([fresh, failed, accept, better]))
        for known in (m.inverse, m.diagonal, m.counters[: USED + 1]):
            known.masked_fill_(failed, 0)
        torch.where(better, m.image, m.best, out=m.best)
        self._store(accept)
        slot = m.counters[EVALUATIONS].remainder(m.capacity).view(1)
        m.ring_images.index_copy_(0, slot, m.image)
        m.ring_rows.index_copy_(0, slot, torch.cat([m.row, slope[None]])[None])

    def _store(self, accept: Tensor) -> None:
        """Put the newest pair into its slot, where it is accepted."""
        m = self.memory
        slot, used = m.counters[SLOT], m.counters[USED]
        used.copy_(torch.where(accept, torch.maximum(used, slot + 1), used))
        there = self.pairs.index_select(1, slot.view(1))
        pair = torch.stack([m.step, m.change])[:, None]
        self.pairs.index_copy_(1, slot.view(1), torch.where(accept, pair, there))

    def first(self, *, scaled: bool) -> None:
        """direction ← g − Yᵀu, times γ where ``scaled``."""
        m = self.memory
        s, y = self.pairs
        unused = self.slots >= m.counters[USED]
        products = (s @ m.gradient).double().masked_fill_(unused, 0)
        self._extend(products - m.products)
        m.products.copy_(products)
        torch.mv(m.inverse, products, out=m.u)
        q = torch.addmv(m.gradient, y.T, m.u.to(m.gradient.dtype), alpha=-1)
        m.direction.copy_(q * m.numbers[GAMMA].to(q.dtype) if scaled else q)

    def _extend(self, s_y: Tensor) -> None:
        """R⁻¹ and D with the newest pair in the place of the one that had its slot.

        Args:
            s_y: S y, ``(m,)``, known but in the slot itself.
        """
        m = self.memory
        slot, accept, along = m.counters[SLOT], m.flags[ACCEPTED], m.numbers[ALONG]
        here = (self.slots == slot) & accept
        m.inverse.masked_fill_(here[:, None] | here, 0)
        column = (m.inverse @ s_y.masked_fill(here, 0)).masked_fill_(here, -1) / -along
        m.inverse.copy_(torch.where(here, column[:, None], m.inverse))
        m.diagonal.copy_(torch.where(here, along, m.diagonal))
        slot.copy_(torch.where(accept, (slot + 1) % len(self.slots), slot))
        accept.fill_(False)

    def second(self) -> None:
        """The direction from z, and the step along it."""
        m = self.memory
        s, y = self.pairs
        t = m.inverse.T @ (m.diagonal * m.u - (y @ m.direction).double())
        direction = torch.addmv(m.direction, s.T, t.to(s.dtype), beta=-1, alpha=-1)
        m.direction.copy_(direction)
        length = torch.linalg.vector_norm(direction).double() / direction.numel() ** 0.5
        cut = (LONGEST_STEP * m.numbers[STEP_SCALE] / length).clamp(max=1).to(direction.dtype)
        before = m.image.flatten()
        after = torch.addcmul(before, direction, cut).clamp_(*m.bounds)
        torch.sub(after, before, out=m.step)  # what really took place
        torch.where(m.flags[FAILED], m.best, after.view_as(m.image), out=m.image)
        m.flags[FRESH] = m.flags[FAILED]
        m.counters[EVALUATIONS] += 1


class KernelSteps:
    """An iteration in the kernels of csrc/cuda, float32.

    Args:
        memory: The tensors that it reads and writes.
    """

    def __init__(self, memory: SolverMemory) -> None:
        self.memory = memory
        image, m = memory.image, memory.history_size
        length = image.numel()
        self.s, self.y = (kernels.DeviceRows(m, length, image.device) for _ in range(2))
        chunks = len(self.s.values)
        self._scratch = image.new_empty(2 * m, dtype=torch.float64)
        self._weights = image.new_empty(m)
        self._sums = image.new_empty(4, kernels.BLOCKS * chunks, dtype=torch.float64)
        self._partials = self.s.partials()
        self._fixed: dict[str, Any] = {
            "length": length,
            "capacity": memory.capacity,
            "low": memory.bounds[0],
            "high": memory.bounds[1],
            "first_step": FIRST_STEP,
            "longest_step": LONGEST_STEP,
            "least_curvature": CURVATURE,
            "shrinkage": SHRINKAGE,
            "s": self.s.address,
            "y": self.y.address,
            **{name: tensor.data_ptr() for name, tensor in self._tensors().items()},
        }

    def _tensors(self) -> dict[str, Tensor]:
        m = self.memory
        fields = (
            *("image", "best", "gradient", "step", "change", "direction", "ring_images"),
            *("numbers", "flags", "counters", "inverse", "diagonal", "products", "u"),
        )
        own = {
            "scratch": self._scratch,
            "weights": self._weights,
            "sums": self._sums,
            "partials": self._partials,
        }
        return {name: getattr(m, name) for name in fields} | own

    def rows(self) -> dict[str, Tensor]:
        """Values ``(chunks, m, 4096)`` and scales ``(chunks, m, 64)`` of S and Y."""
        return {
            "s": self.s.values,
            "s_scales": self.s.scales,
            "y": self.y.values,
            "y_scales": self.y.scales,
        }

    def _described(self, found: Tensor, losses: Tensor) -> dict[str, Any]:
        m = self.memory
        return {
            **self._fixed,
            "terms": len(m.row),
            "row": m.row.data_ptr(),
            "ring_rows": m.ring_rows.data_ptr(),
            "found": found.data_ptr(),
            "losses": losses.data_ptr(),
        }

    def take(self, found: Tensor, losses: Tensor) -> None:
        """Take in the evaluation at ``image``; the terms are float32."""
        losses = losses.float()
        kernels.solver_take(self._described(found, losses), self.memory.image)

    def first(self, *, scaled: bool) -> None:
        """direction ← g − Yᵀu, times γ where ``scaled``."""
        m = self.memory
        kernels.solver_first(self._described(m.gradient, m.image), m.image, scaled=scaled)

    def second(self) -> None:
        """The direction from z, and the step along it."""
        m = self.memory
        kernels.solver_second(self._described(m.gradient, m.image), m.image)
