"""L-BFGS whose every number stays on the device: nothing is fetched, so that a GPU never waits.

The method is that of ``lbfgs.py`` and ``minimise.py``, written a second time with fixed shapes and
without a branch, so that one iteration, its evaluation included, can be captured as a CUDA graph
and replayed: a graph cannot wait for the host to decide. So this solver also keeps a best picture
of its own, from which it begins again after a value that is not finite, while the host has yet to
see the iterates; the best picture that a run shows is kept by ``loop.py``, from the iterates that
were seen. The arithmetic stands in ``steps.py``: in PyTorch's operators, and in kernels.

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

from collections.abc import Callable

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.evaluation import Evaluation
from fastnst.solvers.device.memory import (
    ACCEPTED,
    ALONG,
    BEST_LOSS,
    EVALUATIONS,
    FAILED,
    GAMMA,
    SQUARE,
    USED,
    SolverMemory,
)
from fastnst.solvers.device.steps import choose
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
        capacity: How many evaluations the ring buffer of ``memory`` holds.

    Attributes:
        memory: Everything that an iteration reads and writes.
        layers: The layers of the content losses and those of the style losses.
        precision: The precision of the features, as the last evaluation had it.

    Memory: 2 · m rows, of float32 or of eight bits in the kernels, and 10 pictures; with
    ``spectral`` some six more.
    """

    def __init__(
        self,
        start: Tensor,
        evaluate: Callable[[Tensor], Evaluation],
        history_size: int,
        bounds: tuple[float, float] = (0.0, 1.0),
        spectral: bool = False,
        capacity: int = 1,
    ) -> None:
        self.evaluate = evaluate
        self.memory = SolverMemory(start, history_size, bounds, capacity)
        self.steps = choose(self.memory)
        self.layers: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self.precision = "fp32"
        self.scaling = SpectralScaling(self.image) if spectral else None

    @property
    def image(self) -> Tensor:
        """``(1, 3, H, W)``, where the last evaluation was made."""
        return self.memory.image

    @property
    def best(self) -> Tensor:
        """The picture with the lowest loss so far."""
        return self.memory.best

    @property
    def best_loss(self) -> Tensor:
        """Its loss, 0-dimensional."""
        return self.memory.numbers[BEST_LOSS]

    def forget_best(self) -> None:
        """Take the next evaluation that is finite for the best, whatever its loss."""
        self.best_loss.fill_(_BEYOND_ALL)

    def begin(self) -> None:
        """Evaluate the start."""
        self._take(self.evaluate(self.image))

    def advance(self) -> None:
        """One step, and the evaluation of where it leads."""
        self._step()
        self._take(self.evaluate(self.image))

    def _take(self, evaluation: Evaluation) -> None:
        """Take an evaluation that was made at ``image``."""
        memory, terms = self.memory, evaluation.terms
        self.layers = tuple(terms.content), tuple(terms.style)
        self.precision = evaluation.precision
        row = terms.row
        if row is None:
            parts = [terms.total, *terms.content.values(), *terms.style.values(), terms.tv]
            if terms.temporal is not None:
                parts.append(terms.temporal)
            row = torch.stack([part.to(terms.total) for part in parts])
        memory.expect_terms(len(row))
        self.steps.take(evaluation.gradient.flatten(), row)
        if self.scaling is not None:
            self.scaling.forget(memory.flags[FAILED])
            products = memory.numbers[ALONG], memory.numbers[SQUARE]
            self.scaling.learn(memory.step, memory.change, *products, memory.flags[ACCEPTED])

    def _step(self) -> None:
        """Go to the next picture; after a failure to ``best``, with all pairs forgotten."""
        self.steps.first(scaled=self.scaling is None)
        if self.scaling is not None:
            q = self.memory.direction
            plain = q * self.memory.numbers[GAMMA].to(q.dtype)
            known = (self.memory.diagonal != 0).any()
            q.copy_(torch.where(known, self.scaling.apply(q), plain))
        self.steps.second()

    # ------------------------------------------------------------------------------------- state --

    def state(self) -> State:
        """What ``restore`` needs to go on bit for bit, with the pairs of the slots in use."""
        memory = self.memory
        used = int(memory.counters[USED])  # the first so many slots
        own = State(
            {"history": memory.history_size, "used": used},
            {
                **{name: getattr(memory, name) for name in _STATE},
                **{key: rows[:, :used] for key, rows in self.steps.rows().items()},
            },
        )
        return own if self.scaling is None else own | self.scaling.state().under("scaling")

    def restore(self, state: State) -> None:
        """Take the state of another solver, for pictures of this size and no longer a history.

        Raises:
            InvalidInput: if it kept its curvature pairs in another form.
        """
        memory, used = self.memory, state.numbers["used"]
        memory.expect_terms(len(state.tensors["row"]))
        for name in _STATE:
            saved = state.tensors[name]
            getattr(memory, name)[tuple(map(slice, saved.shape))].copy_(saved)
        memory.counters[EVALUATIONS] = -1  # the ring buffer begins with the next one
        for key, rows in self.steps.rows().items():
            pairs = state.tensors.get(key)
            if pairs is None or pairs.dtype != rows.dtype:
                raise InvalidInput(
                    "resume: the curvature pairs are those of another kind of device"
                )
            rows[:, :used].copy_(pairs)
        if self.scaling is not None:
            self.scaling.restore(state.part("scaling"))


_BEYOND_ALL = 3e38  # a loss that any other is below; a state that is saved has finite numbers alone
_STATE = (
    *("image", "best", "row", "gradient", "step", "change", "numbers", "flags", "counters"),
    *("inverse", "diagonal", "products"),
)
