"""The inverse Hessian of L-BFGS, all pairs at once.

With the pairs s_i = x_{i+1} − x_i and y_i = g_{i+1} − g_i, oldest first, as rows of S and Y, R the
upper triangle of S Yᵀ, D its diagonal and H₀ any initial inverse Hessian,

    u = R⁻¹ S g,    z = H₀ (g − Yᵀ u),    t = R⁻ᵀ (D u − Y z),    H g = z + Sᵀ t :

which is the two-loop recursion (Nocedal & Wright, Numerical Optimization, algorithm 7.4) in matrix
form: u are the weights of its first loop, t what its second adds. S and Y are each read twice, and
two small triangular systems replace 4m vector operations with a number fetched between any two. The
products of old steps with the newest y need no pass of their own: s·y = s·g_{k+1} − s·g_k, and both
are known.

The time of a step grows with the size of the history. The recursion in torch streams the history
twice as well, since its one vector stays in the processor's cache, and with pairs in float32 it is
the quicker of the two on a CPU. Since the vectors of the history only ever meet others in sums over
all pixels, the compiled kernels keep them in eight bits (``ops/history.py``), which takes a quarter
of the memory and of the time. What that does to the loss after 300 iterations is less than what
another seed of the noise does (docs/performance.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.ops import buffers, sums
from fastnst.ops.history import CompressedRows
from fastnst.solvers.state import State

CURVATURE = 1e-8  # a pair with s·y ≤ CURVATURE · |s| |y| has no curvature above rounding


class Curvature(NamedTuple):
    """The two products of a curvature pair (s, y).

    Attributes:
        along: s·y, the curvature along the step.
        change: y·y.
    """

    along: float
    change: float


def curvature_along(step: Tensor, change: Tensor) -> Curvature | None:
    """The products of a pair, each ``(n,)``; None if s·y is not positive beyond rounding."""
    curvature = Curvature(float(sums.dot(step, change)), float(sums.dot(change, change)))
    lengths = float(sums.norm2(step)) * math.sqrt(curvature.change)
    return curvature if curvature.along > CURVATURE * lengths else None


class Rows(Protocol):
    """Vectors that are stored one by one and read all together."""

    def store(self, row: int, x: Tensor) -> None:
        """Set a row to x, ``(n,)``."""
        ...

    def products(self, used: int, x: Tensor) -> Tensor:
        """The inner products of the first rows with x, ``(used,)``."""
        ...

    def add_combination(self, weights: Tensor, out: Tensor) -> None:
        """out += Σ weights[r] · row r, over as many rows as there are weights."""
        ...

    def tensors(self, used: int) -> dict[str, Tensor]:
        """The first rows, in a form that ``restore`` takes."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite the first rows with what ``tensors`` of rows of this kind returned."""
        ...


class DenseRows:
    """Rows in the dtype of the pictures, in one tensor ``(rows, n)``."""

    def __init__(self, rows: int, like: Tensor) -> None:
        self.rows = like.new_empty(rows, like.numel())

    def store(self, row: int, x: Tensor) -> None:
        """Set a row to x, ``(n,)``."""
        self.rows[row] = x

    def products(self, used: int, x: Tensor) -> Tensor:
        """The inner products of the first rows with x, ``(used,)``."""
        return torch.mv(self.rows[:used], x)

    def add_combination(self, weights: Tensor, out: Tensor) -> None:
        """out += Σ weights[r] · row r, over as many rows as there are weights."""
        out.addmv_(self.rows[: len(weights)].T, weights)

    def tensors(self, used: int) -> dict[str, Tensor]:
        """The first rows, in a form that ``restore`` takes."""
        return {"rows": self.rows[:used]}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite the first rows with what ``tensors`` of rows of this kind returned."""
        rows = tensors["rows"]
        self.rows[: len(rows)] = rows


class CurvaturePairs:
    """The last curvature pairs (s, y), in two ring buffers.

    Args:
        history_size: How many pairs to keep, m.
        like: A tensor with the number of values, the dtype and the device of the pictures.

    Memory: 2 · m · n values, of eight bits each in the compiled kernels, and an m × m matrix in
    float64.
    """

    def __init__(self, history_size: int, like: Tensor) -> None:
        plain = like.device.type == "cpu" and like.dtype == torch.float32
        compressed = plain and buffers.unavailable_reason(like) is None

        def rows() -> Rows:
            if compressed:
                return CompressedRows(history_size, like.numel())
            return DenseRows(history_size, like)

        self.s, self.y = rows(), rows()
        # S Yᵀ, by slot; only s_i · y_j with i no younger than j is known
        self.sy = like.new_zeros(history_size, history_size, dtype=torch.float64)
        self.sg = self.sy[0].clone()  # S g at the gradient seen last, by slot
        self.order: list[int] = []  # slots in use, oldest first
        self._newest: int | None = None  # whose column of S Yᵀ is still to be found
        self._direction = like.new_empty(like.numel())

    def take(self, step: Tensor, change: Tensor) -> Curvature | None:
        """Put a pair into the oldest slot, unless it has no positive curvature.

        Args:
            step: s, the displacement that was made, ``(n,)``.
            change: y, how the gradient changed on the way, ``(n,)``.

        Returns:
            The products of the pair, or None if it was not taken.
        """
        curvature = curvature_along(step, change)
        if curvature is None:
            return None
        full = len(self.order) == len(self.sy)
        slot = self.order.pop(0) if full else len(self.order)
        self.order.append(slot)
        self.s.store(slot, step)
        self.y.store(slot, change)
        self.sy[slot, slot] = curvature.along
        self._newest = slot
        return curvature

    def direction(self, gradient: Tensor, initial: Callable[[Tensor], Tensor]) -> Tensor:
        """−H g.

        Args:
            gradient: g at the newest picture, ``(n,)``; the change to it is y of the newest pair.
            initial: H₀, from q ``(n,)``, which it may overwrite, to H₀ q.

        Returns:
            The direction ``(n,)``, in the dtype of the gradient; the next call reuses its memory.
        """
        used = len(self.order)
        # All that follows is of −g, so that no pass is needed to turn the result.
        q = torch.neg(gradient, out=self._direction)
        if used == 0:
            return initial(q)
        sg = self.s.products(used, gradient).double()
        if self._newest is not None:
            others = [slot for slot in self.order if slot != self._newest]
            self.sy[others, self._newest] = (sg - self.sg[:used])[others]
            self._newest = None
        self.sg[:used] = sg
        order = torch.tensor(self.order, dtype=torch.long, device=gradient.device)
        r = self.sy[order[:, None], order].triu()
        u = torch.linalg.solve_triangular(r, sg[order, None], upper=True)
        self.y.add_combination(self._by_slot(u, order, gradient), q)
        z = initial(q)
        yz = self.y.products(used, z).double()[order, None]
        t = torch.linalg.solve_triangular(r.T, r.diagonal()[:, None] * u + yz, upper=False)
        self.s.add_combination(self._by_slot(-t, order, gradient), z)
        return z

    def _by_slot(self, weights: Tensor, order: Tensor, like: Tensor) -> Tensor:
        """Weights ``(m, 1)``, from the oldest pair to the newest, in the order of the slots."""
        by_slot = torch.empty_like(weights[:, 0])
        by_slot[order] = weights[:, 0]
        return by_slot.to(like.dtype)

    def state(self) -> State:
        """The pairs in use and their products, from which ``restore`` goes on bit for bit."""
        used = len(self.order)
        own = State({"order": list(self.order)}, {"sy": self.sy, "sg": self.sg})
        s, y = State(tensors=self.s.tensors(used)), State(tensors=self.y.tensors(used))
        return own | s.under("s") | y.under("y")

    def restore(self, state: State) -> None:
        """Take the state of other pairs, of the same history size and picture size."""
        order = list(state.numbers["order"])
        if sorted(order) != list(range(len(order))) or len(order) > len(self.sy):
            raise InvalidInput(f"the order of the curvature pairs is {order}")
        self.order = order
        self.s.restore(state.part("s").tensors)
        self.y.restore(state.part("y").tensors)
        self.sy.copy_(state.tensors["sy"])
        self.sg.copy_(state.tensors["sg"])
