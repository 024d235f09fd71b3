"""L-BFGS whose every number stays on the device: nothing is fetched, so that a GPU never waits.

The method is that of ``lbfgs.py`` and ``minimise.py``, written a second time with fixed shapes and
without a branch, so that one iteration, its evaluation included, can be captured as a CUDA graph
and replayed: a graph cannot wait for the host to decide. What the host decides there is decided here by
``torch.where`` on 0-dimensional tensors. So this solver also keeps a best picture of its own, from
which it begins again after a value that is not finite, while the host has yet to see the iterates;
the best picture that a run shows is kept by ``loop.py``, from the iterates that were seen.

The inverse Hessian has the form of ``curvature.py``, u = R⁻¹ S g and so on, but R⁻¹ is kept instead
of R, so that its slots may lie in any order and there is no system to solve:

* a new pair adds a last column:  R' = [[R, r], [0, d]]  ⇒  R'⁻¹ = [[R⁻¹, −R⁻¹ r / d], [0, 1 / d]];
* the oldest pair takes the first row and column with it, and those of R⁻¹ go alike, since R is
  triangular;
* so rows and columns may stay where the ring buffer has their pairs, in any order, and a slot that
  is not in use is a row and a column of zeros, which adds nothing to any product.

Each row of R⁻¹ is one forward substitution, x R = e_i, done as far as R is known: its rounding is
that of a triangular solve and does not grow with the number of iterations.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fastnst.evaluation import Evaluation
from fastnst.solvers.curvature import CURVATURE
from fastnst.solvers.projected import FIRST_STEP, LONGEST_STEP
from fastnst.solvers.restarts import SHRINKAGE
from fastnst.solvers.spectral import SpectralScaling
from fastnst.solvers.state import State


class DeviceLBFGS:
    """A picture on its way, its evaluation, and what L-BFGS has learnt; all of it tensors.

    ``begin`` evaluates the start. Each ``advance`` is one evaluation and, as a rule, one iteration:
    a step from the last picture, and the evaluation of the next. After an evaluation that is not
    finite, ``advance`` evaluates the best picture again, from which L-BFGS starts afresh with steps
    a quarter as long.

    Args:
        start: ``(1, 3, H, W)``, float; it is copied and clamped.
        evaluate: The objective and its gradient.
        history_size: How many curvature pairs to keep, m.
        bounds: The smallest and the largest value of a pixel.
        spectral: Whether H₀ follows frequency and colour, as in ``SpectralLBFGS``; if not it is γ.

    Attributes:
        image: ``(1, 3, H, W)``, where the last evaluation was made.
        best: The picture with the lowest loss so far.
        terms: ``(T,)`` float64: the total, the content losses, the style losses and the total
            variation of the last evaluation.
        layers: The layers of the content losses and those of the style losses.
        precision: The precision of the features, as the last evaluation had it.
        failed: Whether the last evaluation was not finite, 0-dimensional.

    Memory: 2 · m + 8 pictures, and with ``spectral`` some six more.
    """

    def __init__(
        self,
        start: Tensor,
        evaluate: Callable[[Tensor], Evaluation],
        history_size: int,
        bounds: tuple[float, float] = (0.0, 1.0),
        spectral: bool = False,
    ) -> None:
        self.evaluate = evaluate
        self.bounds = bounds
        self.image = start.detach().clone().clamp_(*bounds)
        self.best = self.image.clone()
        self.terms = start.new_zeros(0, dtype=torch.float64)
        self.layers: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self.precision = "fp32"
        n, m = start.numel(), history_size

        def number(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.full((), value, dtype=dtype, device=start.device)

        self.gradient = start.new_zeros(n)  # at image
        self.last_gradient = start.new_zeros(n)  # at the picture before
        self.pair = start.new_zeros(2, n)  # the newest s and y
        self.pairs = start.new_zeros(2, m, n)  # S and Y, by slot
        self.slots = torch.arange(m, dtype=torch.long, device=start.device)
        self.slot = number(0, torch.long)  # where the next pair goes
        self.inverse = start.new_zeros(m, m, dtype=torch.float64)  # R⁻¹, by slot
        self.diagonal = start.new_zeros(m, dtype=torch.float64)  # D: s·y
        self.products = start.new_zeros(m, dtype=torch.float64)  # S g at last_gradient
        self.gamma = number(0.0)
        self.step_scale = number(1.0)
        self.gradient_norm1 = number(0.0)  # ‖g‖₁
        self.best_loss = number(math.inf)
        self.fresh = number(True, torch.bool)  # no step was taken since L-BFGS started (afresh)
        self.failed = number(False, torch.bool)
        self.scaling = SpectralScaling(self.image) if spectral else None

    def begin(self) -> None:
        """Evaluate the start."""
        self._take(self.evaluate(self.image))

    def advance(self) -> None:
        """One step, and the evaluation of where it leads."""
        self._step()
        self._take(self.evaluate(self.image))

    # -------------------------------------------------------------------------------- evaluation --

    def _take(self, evaluation: Evaluation) -> None:
        """Take an evaluation that was made at ``image``."""
        terms = evaluation.terms
        self.layers = tuple(terms.content), tuple(terms.style)
        self.precision = evaluation.precision
        parts = (terms.total, *terms.content.values(), *terms.style.values(), terms.tv)
        row = torch.stack([part.to(terms.total) for part in parts]).double()
        if len(self.terms) != len(row):
            self.terms = torch.empty_like(row)
        self.terms.copy_(row)
        self.gradient.copy_(evaluation.gradient.flatten())
        self.gradient_norm1.copy_(torch.linalg.vector_norm(self.gradient, 1))
        loss = row[0]
        finite = torch.isfinite(loss) & torch.isfinite(self.gradient_norm1)
        self.failed.copy_(~finite)
        smaller = self.step_scale / SHRINKAGE
        self.step_scale.copy_(torch.where(finite, self.step_scale, smaller))
        better = finite & (loss < self.best_loss)
        self.best_loss.copy_(torch.where(better, loss, self.best_loss))
        torch.where(better, self.image, self.best, out=self.best)

    # -------------------------------------------------------------------------------------- step --

    def _step(self) -> None:
        """Go to the next picture; after a failure to ``best``, with all pairs forgotten."""
        self._forget()
        direction = self._direction()
        length = torch.linalg.vector_norm(direction).double() / direction.numel() ** 0.5
        cut = (LONGEST_STEP * self.step_scale / length).clamp(max=1).to(direction.dtype)
        before = self.image.flatten()
        after = torch.addcmul(before, direction, cut).clamp_(*self.bounds)
        torch.sub(after, before, out=self.pair[0])  # what really took place
        self.last_gradient.copy_(self.gradient)
        torch.where(self.failed, self.best, after.view_as(self.image), out=self.image)
        self.fresh.copy_(self.failed)

    def _forget(self) -> None:
        """After a failure, drop every pair."""
        for known in (self.inverse, self.diagonal, self.slot):
            known.masked_fill_(self.failed, 0)
        if self.scaling is not None:
            self.scaling.forget(self.failed)
        self.fresh.logical_or_(self.failed)

    def _direction(self) -> Tensor:
        """−H g, ``(n,)``, after taking in the newest pair."""
        step, change = self.pair
        torch.sub(self.gradient, self.last_gradient, out=change)
        curvature, square = torch.dot(step, change).double(), torch.dot(change, change).double()
        lengths = torch.linalg.vector_norm(step).double() * square.sqrt()
        accept = ~self.fresh & (curvature > CURVATURE * lengths)
        self._store(accept)
        s, y = self.pairs
        products = (s @ self.gradient).double()
        self._extend(accept, curvature, products - self.products)
        self.products.copy_(products)

        first = FIRST_STEP * self.step_scale * self.image.numel() / self.gradient_norm1
        first = first.masked_fill(self.gradient_norm1 == 0, 0)
        newest = torch.where(accept, curvature / square, self.gamma)
        self.gamma.copy_(torch.where(self.fresh, first, newest))
        if self.scaling is not None:
            self.scaling.learn(step, change, curvature, accept)

        dtype = self.gradient.dtype
        u = self.inverse @ products
        r = self._initial(torch.addmv(self.gradient, y.T, u.to(dtype), alpha=-1))
        t = self.inverse.T @ (self.diagonal * u - (y @ r).double())
        return torch.addmv(r, s.T, t.to(dtype), beta=-1, alpha=-1)

    def _initial(self, q: Tensor) -> Tensor:
        """H₀ q: γ P q once a pair was learnt, and γ q before that and without ``spectral``."""
        plain = q * self.gamma.to(q.dtype)
        if self.scaling is None:
            return plain
        return torch.where((self.diagonal != 0).any(), self.scaling.apply(q), plain)

    def _store(self, accept: Tensor) -> None:
        """Put the newest pair into its slot, if it is accepted."""
        slot = self.slot.view(1)
        there = self.pairs.index_select(1, slot)
        self.pairs.index_copy_(1, slot, torch.where(accept, self.pair[:, None], there))

    def _extend(self, accept: Tensor, curvature: Tensor, s_y: Tensor) -> None:
        """Update R⁻¹ and D: the newest pair replaces the one that had its slot.

        Args:
            accept: Whether there is a new pair; if not, all stays as it is.
            curvature: s·y of the new pair.
            s_y: S y, ``(m,)``; its value in the slot of the new pair is not read.
        """
        here = (self.slots == self.slot) & accept
        self.inverse.masked_fill_(here[:, None] | here, 0)
        column = (self.inverse @ s_y.masked_fill(here, 0)).masked_fill_(here, -1) / -curvature
        self.inverse.copy_(torch.where(here, column[:, None], self.inverse))
        self.diagonal.copy_(torch.where(here, curvature, self.diagonal))
        self.slot.copy_(torch.where(accept, (self.slot + 1) % len(self.slots), self.slot))

    # ------------------------------------------------------------------------------------- state --

    def state(self) -> State:
        """What ``restore`` needs to go on bit for bit, with the pairs of the slots in use."""
        used = int((self.diagonal != 0).sum())  # the first so many slots
        tensors = {key: getattr(self, name) for key, name in _STATE.items()}
        own = State(
            {"history": len(self.slots), "used": used},
            {**tensors, "s": self.pairs[0, :used], "y": self.pairs[1, :used]},
        )
        return own if self.scaling is None else own | self.scaling.state().under("scaling")

    def restore(self, state: State) -> None:
        """Take the state of another solver, for pictures of this size and no longer a history."""
        self.terms = torch.empty_like(state.tensors["terms"], device=self.image.device)
        for key, name in _STATE.items():
            saved = state.tensors[key]
            getattr(self, name)[tuple(map(slice, saved.shape))].copy_(saved)
        used = state.numbers["used"]
        self.pairs[0, :used].copy_(state.tensors["s"])
        self.pairs[1, :used].copy_(state.tensors["y"])
        if self.scaling is not None:
            self.scaling.restore(state.part("scaling"))


# What is saved, by the names that saved states have, with the attributes that hold it.
_STATE = {
    name: name
    for name in (
        *("image", "best", "terms", "gradient", "last_gradient", "pair", "slot"),
        *("inverse", "diagonal", "products", "gamma", "best_loss", "fresh", "failed"),
    )
} | {"caution": "step_scale", "slope": "gradient_norm1"}
