"""Minimise an objective over pictures: one evaluation an iteration, all pictures inside the bounds.

This is the loop around any solver. It evaluates, keeps the best picture so far, begins again from
there when a loss or a gradient is not finite, and makes the state from which a run goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fastnst.devices import undisturbed
from fastnst.errors import InvalidInput
from fastnst.evaluation import Evaluation, Terms
from fastnst.ops import waiting
from fastnst.solvers.adam import Adam, IterateAverage
from fastnst.solvers.banded_lbfgs import BandedLBFGS
from fastnst.solvers.best_so_far import BestSoFar
from fastnst.solvers.iterate import Iterate
from fastnst.solvers.lbfgs import LBFGS, SpectralLBFGS
from fastnst.solvers.restarts import Restarts, refuse_start
from fastnst.solvers.solver import Setup, Solver
from fastnst.solvers.state import State, restoring
from fastnst.solvers.torch_lbfgs import TorchLBFGS
from fastnst.solvers.vectors import PLAIN, Placement


def _lbfgs(setup: Setup) -> Solver:
    """L-BFGS for a picture in one piece, or for one in bands."""
    return LBFGS(setup) if setup.placement.labels == [""] else BandedLBFGS(setup)


SOLVERS: Mapping[str, Callable[[Setup], Solver]] = {
    "lbfgs": _lbfgs,
    "spectral": SpectralLBFGS,
    "torch-lbfgs": TorchLBFGS,
    "adam": Adam,
}


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
    placement: Placement = PLAIN,
    note: Callable[[float], object] | None = None,
) -> Iterator[Iterate]:
    """Minimise an objective over pictures with values in [low, high].

    Args:
        evaluate: The objective and its gradient: an engine's ``evaluate``.
        start: ``(1, 3, H, W)``, any float dtype, for ``spectral`` float32 or float64; it is copied
            and clamped.
        iterations: How many steps to take. There is no early stopping.
        history_size: How many curvature pairs L-BFGS keeps.
        optimizer: ``lbfgs``; ``spectral``: L-BFGS whose initial inverse Hessian follows the
            curvature by frequency and colour (``spectral.py``); ``torch-lbfgs`` for
            ``torch.optim.LBFGS``, the reference; or ``adam``.
        learning_rate: That of Adam, about the change of a pixel in a step.
        averaging: Decay of an exponential moving average of the iterates; 0: none.
        low: Smallest value of a pixel.
        high: Largest value of a pixel.
        resume: State of an iterate to go on from, of a run with the same arguments; ``iterations``
            may differ, and of ``start`` only the shape, dtype and device matter.
        placement: How the solver's vectors are cut, and where they and the pictures lie. The bands
            count for the result, to rounding; the memory does not.
        note: Takes the total of each evaluation that is yielded, in their order, each before the
            next one is made: what an engine goes by that changes its precision. None: nothing.

    The solver computes as it would without the caller's autocast and inference mode; ``evaluate``
    is called in them.

    Yields:
        ``iterations + 1`` iterates: the start, then the picture after each step, evaluated. With
        ``averaging`` and at least one step the average follows, evaluated too. With ``resume``,
        only those after it.

    Raises:
        InvalidInput: for an unknown optimizer, a number that is out of range, or a state that is of
            no such run.
        NonFiniteLoss: if the loss or gradient of the start is NaN or infinite, or becomes so
            again after ``RESTARTS`` restarts.
    """
    create = SOLVERS.get(optimizer)
    if create is None:
        raise InvalidInput(f"optimizer is {optimizer!r}: choose one of {', '.join(SOLVERS)}")
    if optimizer == "spectral" and start.dtype not in (torch.float32, torch.float64):
        raise InvalidInput(f"optimizer spectral: expected float32 or float64, got {start.dtype}")
    if history_size < 1:
        raise InvalidInput(f"history_size is {history_size}: expected 1 or more")
    if not 0 <= learning_rate < math.inf:
        raise InvalidInput(f"learning_rate is {learning_rate}: expected a finite number, 0 or more")
    if not 0 <= averaging < 1:
        raise InvalidInput(f"averaging is {averaging}: expected at least 0 and less than 1")
    with undisturbed():
        image = placement.copy(start).clamp_(low, high)
        best, restarts = BestSoFar(placement.copy(image)), Restarts()
        average = IterateAverage(averaging, image) if averaging else None
    del start  # which may be large; so may what it is resumed from
    solver: Solver | None = None
    evaluations = iteration = 0

    def measured() -> float:
        """‖g‖₁ at the picture."""
        if solver is None:
            return float(placement.norm1(evaluation.gradient))
        return solver.measure(evaluation)

    def create_solver() -> Solver:
        scale = restarts.step_scale
        bounds = (low, high)
        return create(
            Setup(image, bounds, history_size, learning_rate, scale, gradient_norm1, placement)
        )

    def state() -> State:
        own = State(
            {
                "iteration": iteration,
                "evaluations": evaluations,
                "restarts": restarts.done,
                "loss": loss,
                "slope": gradient_norm1,
                "caution": restarts.step_scale,
                "best_loss": best.loss,
                "precision": best.precision,
            },
            {"image": image, "best": best.image, "gradient": evaluation.gradient},
        )
        if average is not None:
            own |= average.state().under("average")
        if solver is None:
            return own
        return own | State({"optimizer": optimizer}) | solver.state().under(optimizer)

    if resume is not None:
        numbers, tensors = resume.numbers, resume.tensors
        with undisturbed(), restoring(resume, state):
            iteration, evaluations = numbers["iteration"], numbers["evaluations"]
            loss, gradient_norm1 = numbers["loss"], numbers["slope"]
            restarts = Restarts(numbers["restarts"])
            best.restore(tensors["best"], numbers["best_loss"], numbers["precision"])
            image.copy_(tensors["image"])
            evaluation = _evaluation(loss, torch.empty_like(image).copy_(tensors["gradient"]))
            if average is not None:
                average.restore(resume.part("average"))
            if numbers.get("optimizer") == optimizer:
                solver = create_solver()
                solver.restore(resume.part(optimizer))
        del numbers, tensors
    evaluated = resume is not None  # the picture at hand, before the state was saved
    resume = None
    while True:
        if not evaluated:
            waiting.look()
            evaluation = evaluate(image)
            evaluations += 1
            loss = float(evaluation.terms.total)
            with undisturbed():
                gradient_norm1 = measured()
            if not (math.isfinite(loss) and math.isfinite(gradient_norm1)):
                if not best.is_known:
                    raise refuse_start()
                restarts.begin_again(iteration)
                image.copy_(best.image)
                solver = None
                continue
            terms, precision = evaluation.terms, evaluation.precision
            with undisturbed():
                is_best = best.offer(image, loss, precision)
                if average is not None:
                    average.add(image)
            if note is not None:
                note(loss)
            yield Iterate(
                iteration, evaluations, image, terms, loss, precision, best.image, is_best, state
            )
        evaluated = False
        if iteration >= iterations:
            break
        with undisturbed():
            if solver is None:
                solver = create_solver()
            solver.step(evaluation)
        iteration += 1
    if average is not None and iteration:
        with undisturbed():
            mean = average.value.clamp_(low, high)
            # The state is that of the last iterate, and the next evaluation may reuse its memory.
            evaluation = replace(evaluation, gradient=evaluation.gradient.clone())
        at_mean = evaluate(mean)
        loss_there = float(at_mean.terms.total)
        if math.isfinite(loss_there):
            # It is not offered to ``best``, which belongs to the state of the last iterate.
            is_best = best.is_beaten_by(loss_there, at_mean.precision)
            yield Iterate(
                iteration,
                evaluations + 1,
                mean,
                at_mean.terms,
                loss_there,
                at_mean.precision,
                mean if is_best else best.image,
                is_best,
                state,
                averaged=True,
            )


def _evaluation(loss: float, gradient: Tensor) -> Evaluation:
    """An evaluation from before a state was saved; of its terms only the total is known."""
    zero = gradient.new_zeros(())
    return Evaluation(Terms(zero + loss, {}, {}, zero), gradient)
