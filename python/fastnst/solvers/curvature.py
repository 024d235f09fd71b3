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
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.ops import sums
from fastnst.solvers import vectors
from fastnst.solvers.history import BandedRows
from fastnst.solvers.state import State
from fastnst.solvers.vectors import PLAIN, Placement, Vector

CURVATURE = 1e-8  # a pair with s·y ≤ CURVATURE · |s| |y| has no curvature above rounding
FEW = 16  # pairs whose products there is room for from the first on


class Curvature(NamedTuple):
    """The two products of a curvature pair (s, y).

    Attributes:
        along: s·y, the curvature along the step.
        change: y·y.
    """

    along: float
    change: float


def curvature_along(step: Vector, change: Vector, placement: Placement = PLAIN) -> Curvature | None:
    """The products of a pair; None if s·y is not positive beyond rounding."""

    def of(s: Tensor, y: Tensor) -> Tensor:
        found = torch.stack([sums.dot(s, y), sums.dot(y, y), sums.dot(s, s)])
        placement.release(s, y)
        return found

    found = vectors.total((of(s, y) for s, y in zip(step, change, strict=True)), placement)
    along, change_squared, step_squared = found.tolist()
    lengths = math.sqrt(step_squared) * math.sqrt(change_squared)
    return Curvature(along, change_squared) if along > CURVATURE * lengths else None


class CurvaturePairs:
    """The last curvature pairs (s, y), in two ring buffers.

    Args:
        history_size: How many pairs to keep, m.
        like: A picture, or a tensor with the number of values, the dtype and the device of one.
        placement: How vectors are cut into bands, and where they lie.

    Memory: 2 · m · n values, of eight bits each in the compiled kernels, and a k × k matrix in
    float64 for the k pairs that there are.
    """

    def __init__(self, history_size: int, like: Tensor, placement: Placement = PLAIN) -> None:
        self._placement = placement
        self._most = history_size
        self.s = BandedRows(history_size, like, placement)
        self.y = BandedRows(history_size, like, placement)
        # S Yᵀ, by slot; only s_i · y_j with i no younger than j is known
        self.sy = like.new_zeros(0, 0, dtype=torch.float64)
        self.sg = self.sy.new_zeros(0)  # S g at the gradient seen last, by slot
        self.order: list[int] = []  # slots in use, oldest first
        self._newest: int | None = None  # whose column of S Yᵀ is still to be found

    def take(self, step: Vector, change: Vector) -> Curvature | None:
        """Put a pair into the oldest slot, unless it has no positive curvature.

        Args:
            step: s, the displacement that was made.
            change: y, how the gradient changed on the way.

        Returns:
            The products of the pair, or None if it was not taken.
        """
        curvature = curvature_along(step, change, self._placement)
        if curvature is None:
            return None
        full = len(self.order) == self._most
        slot = self.order.pop(0) if full else len(self.order)
        self._make_room(slot + 1)
        self.order.append(slot)
        self.s.store(slot, step)
        self.y.store(slot, change)
        self.sy[slot, slot] = curvature.along
        self._newest = slot
        return curvature

    def direction(self, gradient: Vector, initial: Callable[[Vector], None], out: Vector) -> Vector:
        """−H g.

        Args:
            gradient: g at the newest picture; the change to it is y of the newest pair.
            initial: H₀: overwrites q with H₀ q.
            out: Where the direction is put.

        Returns:
            ``out``.
        """
        used = len(self.order)
        # All that follows is of −g, so that no pass is needed to turn the result.
        for g, q in zip(gradient, out, strict=True):
            torch.neg(g, out=q)
            self._placement.release(g, q)
        if used == 0:
            initial(out)
            return out
        sg = self.s.products(used, gradient)
        if self._newest is not None:
            others = [slot for slot in self.order if slot != self._newest]
            self.sy[others, self._newest] = (sg - self.sg[:used])[others]
            self._newest = None
        self.sg[:used] = sg
        order = torch.tensor(self.order, dtype=torch.long, device=sg.device)
        r = self.sy[order[:, None], order].triu()
        u = torch.linalg.solve_triangular(r, sg[order, None], upper=True)
        self.y.add_combination(_by_slot(u, order), out)
        initial(out)
        yz = self.y.products(used, out)[order, None]
        t = torch.linalg.solve_triangular(r.T, r.diagonal()[:, None] * u + yz, upper=False)
        self.s.add_combination(_by_slot(-t, order), out)
        return out

    def state(self) -> State:
        """The pairs in use and their products, from which ``restore`` goes on bit for bit."""
        used = len(self.order)
        known = {"sy": self.sy[:used, :used], "sg": self.sg[:used]}
        own = State({"order": list(self.order)}, known)
        return own | self.s.state(used).under("s") | self.y.state(used).under("y")

    def restore(self, state: State) -> None:
        """Take the state of other pairs, of the same history size, picture size and bands."""
        order = list(state.numbers["order"])
        used = len(order)
        if sorted(order) != list(range(used)) or used > self._most:
            raise InvalidInput(f"the order of the curvature pairs is {order}")
        self.order = order
        self.s.restore(state.part("s"))
        self.y.restore(state.part("y"))
        self._make_room(used)
        self.sy[:used, :used] = state.tensor("sy", (used, used))
        self.sg[:used] = state.tensor("sg", (used,))

    def _make_room(self, used: int) -> None:
        """Let the products have room for so many pairs."""
        self.sy = with_room(self.sy, used, self._most)
        self.sg = with_room(self.sg, used, self._most)


def with_room(x: Tensor, rows: int, most: int) -> Tensor:
    """A vector, or a square matrix, of products with room for so many rows.

    Args:
        x: As it is, in the first rows and columns; the others are zeros.
        rows: How many there have to be.
        most: How many there will ever be.

    Returns:
        x itself where that is long enough, else one of twice its length or more.
    """
    if rows <= len(x):
        return x
    size = min(most, max(rows, 2 * len(x), FEW))
    grown = x.new_zeros((size,) * x.ndim)
    grown[(slice(len(x)),) * x.ndim] = x
    return grown


def _by_slot(weights: Tensor, order: Tensor) -> Tensor:
    """Weights ``(m, 1)``, from the oldest pair to the newest, in the order of the slots."""
    by_slot = torch.empty_like(weights[:, 0])
    by_slot[order] = weights[:, 0]
    return by_slot
