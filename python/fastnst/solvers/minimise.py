"""Minimise an objective over pictures: one evaluation an iteration, every iterate inside the bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fastnst.errors import InvalidInput, NonFiniteLoss
from fastnst.evaluation import Evaluation, Terms
from fastnst.solvers.adam import Adam, IterateAverage
from fastnst.solvers.lbfgs import LBFGS, SpectralLBFGS
from fastnst.solvers.projected import ProjectedSolver
from fastnst.solvers.state import State
from fastnst.solvers.torch_lbfgs import TorchLBFGS

RESTARTS = 5


@dataclass(frozen=True)
class Iterate:
    """A picture on the way, and the objective there.

    Attributes:
        iteration: 0 for the start, k after k iterations.
        evaluations: How many times the objective was evaluated so far.
        image: ``(1, 3, H, W)``; the solver goes on changing it, so clone what is to be kept.
        evaluation: The objective and its gradient at ``image``.
        loss: The total loss, a finite number.
        state: Makes the state from which ``minimise`` goes on, bit for bit. To be called, and what
            it returns to be saved, before the solver is asked for the next iterate.
        averaged: Whether ``image`` is the average of the iterates, after the last of them; ``state``
            is that of the last of them.
    """

    iteration: int
    evaluations: int
    image: Tensor
    evaluation: Evaluation
    loss: float
    state: Callable[[], State]
    averaged: bool = False

    @property
    def terms(self) -> Terms:
        """The loss and its parts at ``image``."""
        return self.evaluation.terms

    @property
    def precision(self) -> str:
        """Of the features that they were computed from."""
        return self.evaluation.precision


def minimise(
    evaluate: Callable[[Tensor], Evaluation],
    start: Tensor,
    *,
    iterations: int,
    history_size: int = 100,
    optimizer: str = "lbfgs",
    learning_rate: float = 0.02,
    averaging: float = 0.0,
    low: float = 0.0,
    high: float = 1.0,
    resume: State | None = None,
) -> Iterator[Iterate]:
    """Minimise an objective over pictures with values in [low, high].

    Args:
        evaluate: The objective and its gradient: an engine's ``evaluate``.
        start: ``(1, 3, H, W)``, any float dtype; it is copied and clamped.
        iterations: How many steps to take. There is no early stopping.
        history_size: How many curvature pairs L-BFGS keeps.
        optimizer: ``lbfgs``; ``spectral``: L-BFGS whose initial inverse Hessian follows the
            curvature by frequency and colour (``spectral.py``); ``torch-lbfgs`` for
            ``torch.optim.LBFGS``, the reference; or ``adam``.
        learning_rate: Of Adam, about the change of a pixel in a step.
        averaging: Decay of an exponential moving average of the iterates; 0: none.
        low: Smallest value of a pixel.
        high: Largest value of a pixel.
        resume: State of an iterate to go on from, of a run with the same arguments; ``iterations``
            may differ, and of ``start`` only the shape, dtype and device matter.

    Yields:
        ``iterations + 1`` iterates: the start, then the picture after each step, evaluated. With
        ``averaging`` and at least one step the average follows, evaluated too. With ``resume``, only
        those after it.

    Raises:
        InvalidInput: for an unknown optimizer.
        NonFiniteLoss: if the loss or gradient of the start is NaN or infinite, or becomes so
            again after ``RESTARTS`` restarts.
    """
    known = (*SOLVERS, "adam")
    if optimizer not in known:
        raise InvalidInput(f"optimizer is {optimizer!r}: choose one of {', '.join(known)}")
    image = start.detach().clone().clamp_(low, high)
    best, best_loss = image.clone(), math.inf
    solver: ProjectedSolver | Adam | None = None
    average = IterateAverage(averaging, image) if averaging and iterations else None
    caution = 1.0
    restarts = evaluations = iteration = 0

    def create_solver() -> ProjectedSolver | Adam:
        if optimizer == "adam":
            return Adam(image, learning_rate * caution, (low, high))
        return SOLVERS[optimizer](image, history_size, (low, high), caution, slope)

    def state() -> State:
        counts = {"iteration": iteration, "evaluations": evaluations, "restarts": restarts}
        own = State(
            {**counts, "caution": caution, "loss": loss, "slope": slope, "best_loss": best_loss},
            {"image": image, "best": best, "gradient": evaluation.gradient},
        )
        if average is not None:
            own |= average.state().under("average")
        if solver is None:
            return own
        return own | State({"optimizer": optimizer}) | solver.state().under(optimizer)

    if resume is not None:
        numbers = resume.numbers
        iteration, evaluations = numbers["iteration"], numbers["evaluations"]
        restarts, caution = numbers["restarts"], numbers["caution"]
        loss, slope, best_loss = numbers["loss"], numbers["slope"], numbers["best_loss"]
        image.copy_(resume.tensors["image"])
        best.copy_(resume.tensors["best"])
        zero = image.new_zeros(())
        gradient = torch.empty_like(image).copy_(resume.tensors["gradient"])
        evaluation = Evaluation(Terms(zero + loss, {}, {}, zero), gradient)
        if average is not None:
            average.restore(resume.part("average"))
        if numbers.get("optimizer") == optimizer:
            solver = create_solver()
            solver.restore(resume.part(optimizer))

    evaluated = resume is not None  # the picture at hand, before the state was saved
    while True:
        if not evaluated:
            evaluation = evaluate(image)
            evaluations += 1
            loss = float(evaluation.terms.total)
            slope = float(torch.linalg.vector_norm(evaluation.gradient, 1))
            if not (math.isfinite(loss) and math.isfinite(slope)):
                if best_loss == math.inf:
                    raise NonFiniteLoss("the loss of the starting picture is not a finite number")
                if restarts == RESTARTS:
                    raise NonFiniteLoss(
                        f"the loss became NaN or infinite after {iteration} iterations, "
                        f"and again after {RESTARTS} restarts with smaller steps"
                    )
                restarts += 1
                caution /= 4
                image.copy_(best)
                solver = None
                continue
            if loss < best_loss:
                best_loss = loss
                best.copy_(image)
            if average is not None:
                average.add(image)
            yield Iterate(iteration, evaluations, image, evaluation, loss, state)
        evaluated = False
        if iteration >= iterations:
            break
        if solver is None:
            solver = create_solver()
        solver.step(evaluation)
        iteration += 1
    if average is not None:
        mean = average.value.clamp_(low, high)
        at_mean = evaluate(mean)
        mean_loss = float(at_mean.terms.total)
        if math.isfinite(mean_loss):
            yield Iterate(iteration, evaluations + 1, mean, at_mean, mean_loss, state, True)


SOLVERS: dict[str, type[ProjectedSolver]] = {
    "lbfgs": LBFGS,
    "spectral": SpectralLBFGS,
    "torch-lbfgs": TorchLBFGS,
}
