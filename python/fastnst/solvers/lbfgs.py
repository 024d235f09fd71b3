"""L-BFGS on the pixels, with every iterate inside the range of a picture.

It makes one evaluation an iteration and no line search, as ``torch.optim.LBFGS`` with lr 1 does.
What is added:

* The step is projected: after each iteration the picture is clamped to its range, and the next
  curvature pair (s, y) has the displacement that really took place, so that it is a true secant of
  the objective. Clamping inside the closure, as many scripts do, evaluates y at another point than
  s and makes L-BFGS explode.
* The first step moves. L-BFGS knows no curvature yet and torch takes a step of length 1 in all
  (sum over pixels), which no one would see; here the pixels move by ``FIRST_STEP`` on average.
* A step that is longer than any picture needs is cut: its root mean square is at most
  ``LONGEST_STEP``.

After a loss or gradient that is not finite, ``minimise`` begins again from the best picture, with
steps a quarter as long.

Beside the pairs it keeps two vectors: the last gradient, in whose place the change of the gradient
is computed, and the direction, which becomes the step that was really taken. A picture that is cut
into bands of rows has the same method by bands (``banded_lbfgs.py``).

Measured at 160 px, 300 iterations from white noise, loss of the picture with its pixels in range:
projected 1.276; unconstrained and clamped at the end 1.705; a quadratic penalty of weight 100
outside the range 1.255, but that has one more weight to choose.
"""

from __future__ import annotations

import torch

from fastnst.evaluation import Evaluation
from fastnst.solvers import vectors
from fastnst.solvers.banded_spectral import BandedScaling
from fastnst.solvers.curvature import Curvature, CurvaturePairs
from fastnst.solvers.projected import ProjectedSolver
from fastnst.solvers.spectral import Scaling, SpectralScaling
from fastnst.solvers.state import State
from fastnst.solvers.vectors import Placement, Vector


class LBFGS(ProjectedSolver):
    """L-BFGS whose initial inverse Hessian is γ times the identity."""

    def prepare(self, history_size: int, first: float, gradient_norm1: float) -> None:
        """Set up the method; see ``ProjectedSolver``."""
        self.pairs = CurvaturePairs(history_size, self.image, self.placement)
        self.gamma = first / gradient_norm1 if gradient_norm1 > 0 else 0.0
        self.gradient = self.placement.vector(self.image)
        self.displacement = self.placement.vector(self.image)
        self.has_moved = False  # whether both hold what their names say

    def learn(self, step: Vector, change: Vector, curvature: Curvature) -> None:  # noqa: ARG002
        """Learn H₀ from a pair (s, y) with s·y > 0; called for every pair that is kept."""
        self.gamma = curvature.along / curvature.change

    def initial(self, q: Vector) -> None:
        """q ← H₀ q."""
        for band in q:
            band.mul_(self.gamma)
            self.placement.release(band)

    def propose(self, evaluation: Evaluation) -> Vector:
        """The quasi-Newton step from ``image``."""
        found = self.placement.views(evaluation.gradient)
        if self.has_moved:
            for now, last in zip(found, self.gradient, strict=True):
                torch.sub(now, last.view(now.shape), out=last.view(now.shape))
                self.placement.release(last)
            change = self.gradient
            curvature = self.pairs.take(self.displacement, change)
            if curvature is not None:
                self.learn(self.displacement, change, curvature)
        for now, last in zip(found, self.gradient, strict=True):
            last.view(now.shape).copy_(now)  # an engine may reuse the memory of its gradient
            self.placement.release(last)
        self.has_moved = True
        return self.pairs.direction(self.gradient, self.initial, out=self.displacement)

    def state(self) -> State:
        """What ``restore`` needs to go on bit for bit."""
        own = State({"gamma": self.gamma}) | self.pairs.state().under("pairs")
        if not self.has_moved:
            return own
        last = vectors.state("last_gradient", self.gradient, self.placement)
        return own | last | vectors.state("displacement", self.displacement, self.placement)

    def restore(self, state: State) -> None:
        """Take the state of another solver of this kind, for a picture of this size."""
        self.gamma = state.numbers["gamma"]
        self.pairs.restore(state.part("pairs"))
        self.has_moved = any(name.split(".")[0] == "displacement" for name in state.tensors)
        if self.has_moved:
            vectors.restore(state, "last_gradient", self.gradient, self.placement)
            vectors.restore(state, "displacement", self.displacement, self.placement)


class SpectralLBFGS(LBFGS):
    """L-BFGS with an initial inverse Hessian for each band of frequencies and colour.

    Of a picture that is cut into bands of rows the Fourier transforms are made by bands, which all
    processes share; else at once. Both are the same but for rounding.
    """

    scaling: Scaling

    def place(self, placement: Placement) -> Placement:
        """Bands as they were asked for."""
        return placement

    def prepare(self, history_size: int, first: float, gradient_norm1: float) -> None:
        """Set up the method; see ``ProjectedSolver``."""
        super().prepare(history_size, first, gradient_norm1)
        whole = self.placement.labels == [""]
        self.scaling = (
            SpectralScaling(self.image) if whole else BandedScaling(self.image, self.placement)
        )

    def learn(self, step: Vector, change: Vector, curvature: Curvature) -> None:
        """Learn γ P from a pair (s, y) with s·y > 0."""
        self.scaling.learn_pair(step, change, curvature)

    def initial(self, q: Vector) -> None:
        """q ← γ P q, or γ q as long as there is no pair to learn P from."""
        if self.pairs.order:
            self.scaling.scale(q)
        else:
            super().initial(q)

    def state(self) -> State:
        """What ``restore`` needs to go on bit for bit."""
        return super().state() | self.scaling.state().under("scaling")

    def restore(self, state: State) -> None:
        """Take the state of another solver of this kind, for a picture of this size."""
        super().restore(state)
        self.scaling.restore(state.part("scaling"))
