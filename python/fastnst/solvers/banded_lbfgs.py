"""L-BFGS whose vectors are cut into bands, with one sum over them in an iteration.

It takes the steps of ``lbfgs.py``. The bands may be those of several processes; so all inner
products of an iteration are found together, before it is known what they are needed for. With the
pairs (s, y) as rows of S and Y, the products of both with the gradient g and with the newest s
suffice, since y is a difference of gradients: S y = S g_{k+1} − S g_k, and the same for Y. Then

    u = R⁻¹ S g,    Y z = γ (Y g − Y Yᵀ u),    t = R⁻ᵀ (D u − Y z),    H g = γ (g − Yᵀ u) + Sᵀ t

(``curvature.py``) needs no product any more, nor does its length. A pair is stored before it is
known whether its curvature is positive, in a row that is spare: one that is not taken must not cost
the oldest.

Y g has the square of the scale of the objective, and the compiled kernels add up parts of it in
float32. So g stands for the gradient times a power of two throughout, and y for its change.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.evaluation import Evaluation
from fastnst.ops import sums
from fastnst.solvers import vectors
from fastnst.solvers.curvature import CURVATURE, with_room
from fastnst.solvers.history import BandedRows
from fastnst.solvers.projected import ProjectedSolver
from fastnst.solvers.solver import towards_one
from fastnst.solvers.state import State
from fastnst.solvers.vectors import Placement, Vector

_SQUARES, _VECTORS = ("ss", "sy", "yy"), ("sg", "yg")  # what is known of pairs, by row


class Products(NamedTuple):
    """Inner products of an iteration: float64 on the CPU, sums over all bands.

    Attributes:
        norm1: ‖g‖₁, of the gradient as it is.
        square: g·g.
        along: s·y of the newest step.
        change: y·y.
        length: s·s.
        sg: S g, ``(k,)`` by row, of the first rows, which have all pairs.
        yg: Y g.
        ss: S s.
        ys: Y s.
    """

    norm1: float
    square: float
    along: float
    change: float
    length: float
    sg: Tensor
    yg: Tensor
    ss: Tensor
    ys: Tensor


class BandedLBFGS(ProjectedSolver):
    """L-BFGS by bands, whose initial inverse Hessian is γ times the identity."""

    def place(self, placement: Placement) -> Placement:
        """Bands as they were asked for."""
        return placement

    def prepare(self, history_size: int, first: float, gradient_norm1: float) -> None:
        """Set up the method; see ``ProjectedSolver``."""
        self.rows = history_size + 1
        self.s = BandedRows(self.rows, self.image, self.placement)
        self.y = BandedRows(self.rows, self.image, self.placement)
        # S Sᵀ, S Yᵀ, Y Yᵀ by row, known where both are in use; S g and Y g at the last gradient.
        # They have room for the rows that have been used so far.
        square = torch.zeros(0, 0, dtype=torch.float64, device="cpu")
        self.ss = self.sy = self.yy = square
        self.sg = self.yg = square.new_zeros(0)
        self.square = 0.0  # g·g
        self.order: list[int] = []  # rows in use, oldest first; the others come after them
        self.spare = 0
        self.scale = towards_one(gradient_norm1 / self.values)  # of the gradient, in g
        self.gamma = first / (gradient_norm1 * self.scale) if gradient_norm1 > 0 else 0.0
        self.gradient = self.placement.vector(self.image)
        self.displacement = self.placement.vector(self.image)
        self.has_moved = False  # whether both hold what their names say
        self.is_measured = False  # whether the products are those of the picture at hand

    def measure(self, evaluation: Evaluation) -> float:
        """Find all products that the next step needs, and learn from the last one; ‖g‖₁."""
        found = self.placement.views(evaluation.gradient)
        if self.has_moved:
            for now, last in zip(found, self.gradient, strict=True):
                change = last.view(now.shape)
                torch.sub(change, now, alpha=self.scale, out=change).neg_()
                self.placement.release(last)
        products = self._products(found)
        if math.isfinite(products.norm1):
            used = len(products.sg)
            self._make_room(used)
            if self.has_moved:
                self._learn(products)
            self.sg[:used], self.yg[:used] = products.sg, products.yg
            self.square = products.square
            self.has_moved, self.is_measured = False, True
        return products.norm1

    def propose(self, evaluation: Evaluation) -> Vector:
        """The quasi-Newton step from ``image``."""
        if not self.is_measured:
            self.measure(evaluation)
        for now, last in zip(self.placement.views(evaluation.gradient), self.gradient, strict=True):
            # in memory of its own: an engine may reuse that of its gradient
            torch.mul(now, self.scale, out=last.view(now.shape))
            self.placement.release(last)
        of_gradient, of_changes, of_steps = self._weights()
        for now, step in zip(self.gradient, self.displacement, strict=True):
            torch.mul(now, of_gradient, out=step)
            self.placement.release(now, step)
        if self.order:
            self.y.add_combination(of_changes, self.displacement)
            self.s.add_combination(of_steps, self.displacement)
        self.has_moved, self.is_measured = True, False
        return self.displacement

    def length(self, step: Vector) -> float:  # noqa: ARG002
        """The length of the proposed step, of the products that are known."""
        return math.sqrt(max(0.0, self.proposed_square))

    def state(self) -> State:
        """What ``restore`` needs to go on bit for bit."""
        known = self._used(stored=False)
        used = known if self.is_measured else 0
        own = {
            "order": list(self.order),
            "spare": self.spare,
            "gamma": self.gamma,
            "scale": self.scale,
            "square": self.square,
            "measured": self.is_measured,
            "used": used,
        }
        squares = {name: getattr(self, name)[:known, :known] for name in _SQUARES}
        found = State(own, squares | {name: getattr(self, name)[:known] for name in _VECTORS})
        if used:
            found |= self.s.state(used).under("s") | self.y.state(used).under("y")
        return found

    def restore(self, state: State) -> None:
        """Take the state of another solver of this kind, for the same bands."""
        numbers = state.numbers
        self.order, self.spare = list(numbers["order"]), numbers["spare"]
        seen = sorted([*self.order, self.spare])
        if len(set(seen)) < len(seen) or seen[0] < 0 or seen[-1] >= self.rows:
            raise InvalidInput(f"the order of the curvature pairs is {self.order}")
        self.gamma, self.square = numbers["gamma"], numbers["square"]
        self.scale = numbers["scale"]
        self.is_measured = numbers["measured"]
        if numbers["used"]:
            self.s.restore(state.part("s"))
            self.y.restore(state.part("y"))
        known = self._used(stored=False)
        self._make_room(known)
        for name in _SQUARES:
            getattr(self, name)[:known, :known] = state.tensor(name, (known, known))
        for name in _VECTORS:
            getattr(self, name)[:known] = state.tensor(name, (known,))

    def _make_room(self, used: int) -> None:
        """Let the products have room for so many rows."""
        for name in (*_SQUARES, *_VECTORS):
            setattr(self, name, with_room(getattr(self, name), used, self.rows))

    def _used(self, stored: bool) -> int:
        """How many rows there are up to the last one that is in use, or holds the newest pair."""
        return max([*self.order, self.spare if stored else -1]) + 1

    def _products(self, gradient: list[Tensor]) -> Products:
        """All inner products, in one sum over the bands.

        Args:
            gradient: The bands of the gradient as it is. The newest s is in ``displacement``, y in
                ``gradient``, if there has been a step.
        """
        used = self._used(self.has_moved)

        def of(band: int) -> Tensor:
            g = gradient[band]
            found = torch.zeros(5 + 4 * used, dtype=torch.float64, device="cpu")
            of_rows = found[5:].view(4, used)
            found[0] = sums.norm1(g)
            if not math.isfinite(found[0]):  # what follows means nothing, and all begin again
                return found
            found[1] = sums.squared_norm(g)
            s, y = self.s.bands[band], self.y.bands[band]
            if self.has_moved:
                step, change = self.displacement[band], self.gradient[band]
                s.store(self.spare, step)
                y.store(self.spare, change)
                found[2] = sums.dot(step, change)
                found[3], found[4] = sums.squared_norm(change), sums.squared_norm(step)
                of_rows[2], of_rows[3] = s.products(used, step), y.products(used, step)
                self.placement.release(step, change)
            if used:
                flat = g.reshape(-1)
                of_rows[0], of_rows[1] = s.products(used, flat), y.products(used, flat)
            self.placement.release(*s.memory(), *y.memory())
            return found

        total = vectors.total((of(band) for band in range(len(gradient))), self.placement)
        found = Products(*total[:5].tolist(), *total[5:].view(4, used))
        square = found.square * self.scale**2
        return found._replace(square=square, sg=found.sg * self.scale, yg=found.yg * self.scale)

    def _learn(self, products: Products) -> None:
        """Take the newest pair, which the spare row holds, unless it has no positive curvature."""
        along, change = products.along, products.change
        if not along > CURVATURE * math.sqrt(products.length) * math.sqrt(change):
            return
        new, used = self.spare, len(products.sg)
        self.gamma = along / change
        for square, column, row in (
            (self.ss, products.ss, products.ss),
            # of the older s with the newest y, and of the newest s with the older y
            (self.sy, products.sg - self.sg[:used], products.ys),
            (self.yy, changes := products.yg - self.yg[:used], changes),
        ):
            square[:used, new] = column
            square[new, :used] = row
        self.sy[new, new], self.yy[new, new], self.ss[new, new] = along, change, products.length
        self.order.append(new)
        full = len(self.order) == self.rows
        self.spare = self.order.pop(0) if full else len(self.order)

    def _weights(self) -> tuple[float, Tensor, Tensor]:
        """The step as a combination of the gradient, of the rows of Y and of those of S.

        Its squared length is put into ``proposed_square``.
        """
        gamma = self.gamma
        order = torch.tensor(self.order, dtype=torch.long, device="cpu")
        sg, yg = self.sg[order], self.yg[order]
        sy, ss, yy = (x[order[:, None], order] for x in (self.sy, self.ss, self.yy))
        r = sy.triu()
        u = torch.linalg.solve_triangular(r, sg[:, None], upper=True)[:, 0]
        yz = gamma * (yg - yy @ u)
        right = r.diagonal() * u - yz
        t = torch.linalg.solve_triangular(r.T, right[:, None], upper=False)[:, 0]
        a, b, c = -gamma, gamma * u, -t
        self.proposed_square = float(
            a * a * self.square + b @ yy @ b + c @ ss @ c + 2 * (a * (b @ yg + c @ sg) + c @ sy @ b)
        )
        by_row = torch.zeros(2, self._used(stored=False), dtype=torch.float64, device="cpu")
        by_row[0, order], by_row[1, order] = b, c
        return a, by_row[0], by_row[1]
