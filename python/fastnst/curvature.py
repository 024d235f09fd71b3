"""The inverse Hessian of L-BFGS in compact form (Byrd, Nocedal & Schnabel 1994, theorem 2.2).

With the pairs s_i = x_{i+1} − x_i and y_i = g_{i+1} − g_i, oldest first, as rows of S and Y,

    R = the upper triangle of S Yᵀ,    D = its diagonal,    γ = s·y / y·y of the newest pair,
    u = R⁻¹ S g,    t = R⁻ᵀ ((D + γ Y Yᵀ) u − γ Y g),
    H g = γ g + Sᵀ t − γ Yᵀ u.

This is the two-loop recursion in other words: two passes over the history (one for S g and Y g,
one for Sᵀ t and Yᵀ u) and a small triangular system, in place of 4m vector operations with a
number fetched between any two. The products of old pairs with the newest y need no pass of their
own: s·y = s·g_{k+1} − s·g_k, and both are known.

A step takes as long as the history is large: torch's recursion streams it twice as well, since its one
vector stays in the cache, and with pairs in float32 it is the quicker of the two on a CPU. Since the
vectors of the history only ever meet others in sums over all pixels, the compiled kernels keep them
in eight bits (``ops/history.py``): a quarter of the memory, and of the time. What that does to the loss
after 300 iterations is less than what another seed of the noise does (docs/performance.md).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from fastnst.ops import native
from fastnst.ops.history import CompressedRows
from fastnst.state import State

CURVATURE = 1e-8  # a pair with s·y ≤ CURVATURE · |s| |y| has no curvature above rounding


def curvature_along(step: Tensor, change: Tensor) -> float | None:
    """s·y of a pair, each ``(n,)``; None if it is not positive beyond rounding: no such pair is kept."""
    curvature = float(torch.dot(step, change))
    lengths = float(torch.linalg.vector_norm(step)) * float(torch.linalg.vector_norm(change))
    return curvature if curvature > CURVATURE * lengths else None


class Rows(Protocol):
    """Vectors that are stored one by one and read all together."""

    def store(self, row: int, x: Tensor) -> None:
        """Row ← x."""
        ...

    def products(self, used: int, x: Tensor) -> Tensor:
        """The inner products of the first rows with x, ``(used,)``."""
        ...

    def add_combination(self, weights: Tensor, out: Tensor) -> None:
        """out += Σ weights[r] · row r, over as many rows as there are weights."""
        ...

    def state(self, used: int) -> State:
        """The first rows."""
        ...

    def restore(self, state: State) -> None:
        """Take the rows of another of this kind."""
        ...


class DenseRows:
    """Rows as they are, in one tensor ``(rows, n)``."""

    def __init__(self, rows: int, like: Tensor) -> None:
        self.rows = like.new_empty(rows, like.numel())

    def store(self, row: int, x: Tensor) -> None:
        """Row ← x."""
        self.rows[row] = x

    def products(self, used: int, x: Tensor) -> Tensor:
        """The inner products of the first rows with x, ``(used,)``."""
        return torch.mv(self.rows[:used], x)

    def add_combination(self, weights: Tensor, out: Tensor) -> None:
        """out += Σ weights[r] · row r, over as many rows as there are weights."""
        out.addmv_(self.rows[: len(weights)].T, weights)

    def state(self, used: int) -> State:
        """The first rows."""
        return State(tensors={"rows": self.rows[:used]})

    def restore(self, state: State) -> None:
        """Take rows that ``state`` made."""
        rows = state.tensors["rows"]
        self.rows[: len(rows)] = rows


class CurvaturePairs:
    """The last pairs (s, y), in a ring buffer: s of slot k is row 2k, y is row 2k + 1.

    Args:
        history_size: How many pairs to keep, m.
        like: A tensor of the picture's number of values, dtype and device.

    Memory: 2 · m · n values, of eight bits in the compiled kernels; m × m matrices in float64.
    """

    def __init__(self, history_size: int, like: Tensor) -> None:
        plain = like.device.type == "cpu" and like.dtype == torch.float32
        compressed = plain and native.cannot_run(like) is None
        rows = 2 * history_size
        self.rows: Rows = (
            CompressedRows(rows, like.numel()) if compressed else DenseRows(rows, like)
        )
        products = like.new_zeros(history_size, history_size, dtype=torch.float64)
        self.sy = products  # S Yᵀ, by slot; only s_i · y_j with i no younger than j is known
        self.yy = products.clone()  # Y Yᵀ, by slot
        self.gamma = 1.0
        self.order: list[int] = []  # slots in use, oldest first
        self.sg = products[0].clone()  # S g and Y g at the gradient seen last, by slot
        self.yg = products[0].clone()
        self._direction = like.new_empty(like.numel())

    def direction(self, gradient: Tensor, step: Tensor | None, change: Tensor | None) -> Tensor:
        """−H g, after taking in the newest pair.

        Args:
            gradient: g at the newest picture, ``(n,)``.
            step: s, the displacement that led there, ``(n,)``; None if there was none.
            change: y, how the gradient changed on the way, ``(n,)``.

        Returns:
            ``(n,)``, in the dtype of the gradient; its memory is reused by the next.
        """
        newest = self._store(step, change) if step is not None and change is not None else None
        used = len(self.order)
        if used == 0:
            return torch.mul(gradient, -self.gamma, out=self._direction)
        sg, yg = self.rows.products(2 * used, gradient).view(used, 2).unbind(1)
        before_sg, before_yg = self.sg[:used].clone(), self.yg[:used].clone()
        self.sg[:used], self.yg[:used] = sg, yg
        if newest is not None:
            self._multiply(newest, self.sg[:used] - before_sg, self.yg[:used] - before_yg)
        return self._apply(gradient, used)

    def _store(self, step: Tensor, change: Tensor) -> int | None:
        """Put a pair into the oldest slot, unless it has no positive curvature."""
        curvature = curvature_along(step, change)
        if curvature is None:
            return None
        full = len(self.order) == len(self.sy)
        slot = self.order.pop(0) if full else len(self.order)
        self.order.append(slot)
        self.rows.store(2 * slot, step)
        self.rows.store(2 * slot + 1, change)
        self.sy[slot, slot] = curvature
        self.yy[slot, slot] = torch.dot(change, change)
        self.gamma = curvature / float(self.yy[slot, slot])
        return slot

    def _multiply(self, newest: int, s_y: Tensor, y_y: Tensor) -> None:
        """Fill in the newest column of S Yᵀ and the newest row and column of Y Yᵀ."""
        others = torch.tensor([slot for slot in self.order if slot != newest], dtype=torch.long)
        others = others.to(s_y.device)
        self.sy[others, newest] = s_y[others]
        self.yy[others, newest] = y_y[others]
        self.yy[newest, others] = y_y[others]

    def _apply(self, gradient: Tensor, used: int) -> Tensor:
        order = torch.tensor(self.order, device=gradient.device)
        sy = self.sy[order[:, None], order]
        yy = self.yy[order[:, None], order]
        r = sy.triu()
        u = torch.linalg.solve_triangular(r, self.sg[order, None], upper=True)
        middle = sy.diagonal()[:, None] * u + self.gamma * (yy @ u - self.yg[order, None])
        t = torch.linalg.solve_triangular(r.T, middle, upper=False)
        weights = torch.empty(used, 2, dtype=torch.float64, device=gradient.device)
        weights[order, 0], weights[order, 1] = -t[:, 0], self.gamma * u[:, 0]
        direction = torch.mul(gradient, -self.gamma, out=self._direction)
        self.rows.add_combination(weights.flatten().to(gradient.dtype), direction)
        return direction

    def state(self) -> State:
        """The pairs in use and their products; ``restore`` goes on from it bit for bit."""
        products = {"sy": self.sy, "yy": self.yy, "sg": self.sg, "yg": self.yg}
        own = State({"gamma": self.gamma, "order": list(self.order)}, products)
        return own | self.rows.state(2 * len(self.order)).under("rows")

    def restore(self, state: State) -> None:
        """Take the state of other pairs, of the same history size and picture size."""
        self.gamma = state.numbers["gamma"]
        self.order = list(state.numbers["order"])
        self.rows.restore(state.part("rows"))
        for name in ("sy", "yy", "sg", "yg"):
            getattr(self, name).copy_(state.tensors[name])
