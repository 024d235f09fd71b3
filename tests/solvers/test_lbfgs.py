"""The solver on functions whose minimum is known, and on functions that misbehave."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastnst.errors import InvalidInput, NonFiniteLoss
from fastnst.evaluation import Evaluation, Terms
from fastnst.solvers.minimise import minimise
from fastnst.solvers.projected import FIRST_STEP, LONGEST_STEP
from helpers.functions import curved, evaluator, uniform


@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral"])
def test_finds_an_interior_minimum(optimizer: str) -> None:
    target = uniform(0.2, 0.8)
    start = torch.full_like(target, 0.5)
    *_, last = minimise(curved(target), start, iterations=200, optimizer=optimizer)
    # torch ignores curvature pairs with yᵀs ≤ 1e-10, so the last digits are not reached
    assert float((last.image - target).abs().max()) < 1e-4


def test_both_solvers_follow_the_same_path_along_the_bounds() -> None:
    target, start = uniform(-0.5, 1.5), uniform(0, 1, seed=1)
    paths = [
        [i.image.clone() for i in minimise(curved(target), start, iterations=25, optimizer=name)]
        for name in ("lbfgs", "torch-lbfgs")
    ]
    for ours, theirs in zip(*paths, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-7)  # rounding grows on the way


def test_finds_the_minimum_on_the_bounds() -> None:
    # separable, so the constrained minimum is the clamped target
    target = uniform(-0.5, 1.5)
    *_, last = minimise(curved(target), torch.full_like(target, 0.5), iterations=300)
    clamped = target.clamp(0, 1)
    assert torch.equal(last.image == 0, target <= 0)
    assert torch.equal(last.image == 1, target >= 1)
    # a projected quasi-Newton step is not the constrained one, so this converges slowly: a level
    # of an 8-bit picture is 4e-3
    assert float((last.image - clamped).abs().max()) < 4e-3


def test_every_iterate_is_in_range_and_counted() -> None:
    target = uniform(-2, 3)
    seen = []
    for iterate in minimise(curved(target), uniform(-1, 2, seed=1), iterations=20):
        assert float(iterate.image.min()) >= 0
        assert float(iterate.image.max()) <= 1
        seen.append((iterate.iteration, iterate.evaluations))
        assert iterate.loss == float(iterate.terms.total)
    assert seen == [(i, i + 1) for i in range(21)]  # one evaluation an iteration, no early stop


@pytest.mark.parametrize("optimizer", ["lbfgs", "torch-lbfgs"])
@pytest.mark.parametrize("history_size", [4, 100])
def test_without_active_bounds_it_is_torch_lbfgs(optimizer: str, history_size: int) -> None:
    """In float64 the path is that of torch.optim.LBFGS after the same first step."""
    target = uniform(0.4, 0.6)
    start = torch.full_like(target, 0.5)
    weights = torch.logspace(0, 1, target.numel(), dtype=target.dtype).view_as(target)
    evaluate = evaluator(lambda x: (weights * (x - target) ** 2).sum())
    iterates = minimise(
        evaluate, start, iterations=15, optimizer=optimizer, history_size=history_size
    )
    ours = [i.image.clone() for i in iterates]

    x = start.clone().requires_grad_()
    slope = float(evaluate(start).gradient.abs().sum())
    optimizer = torch.optim.LBFGS(
        [x], lr=FIRST_STEP * x.numel(), max_iter=1, tolerance_grad=-1, tolerance_change=-1,
        history_size=history_size,
    )  # fmt: skip
    for expected in ours[1:]:

        def closure():
            evaluation = evaluate(x.detach())
            x.grad = evaluation.gradient * (x.numel() / slope)
            return evaluation.terms.total * (x.numel() / slope)

        optimizer.step(closure)
        optimizer.param_groups[0]["lr"] = 1.0
        torch.testing.assert_close(x.detach(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_first_step_moves_whatever_the_scale_of_the_loss(scale: float) -> None:
    target = uniform(0.2, 0.8, dtype=torch.float32)
    evaluate = evaluator(lambda x: scale * ((x - target) ** 2).sum())
    iterates = [i.image.clone() for i in minimise(evaluate, torch.full_like(target, 0.5),
                                                 iterations=12)]  # fmt: skip
    moved = float((iterates[1] - iterates[0]).abs().mean())
    assert moved == pytest.approx(FIRST_STEP, rel=1e-3)
    assert float((iterates[-1] - target).abs().max()) < 1e-3


def test_no_step_is_longer_than_the_longest() -> None:
    # nearly flat, then steep: the secant step overshoots by far
    evaluate = evaluator(lambda x: (1e-3 * x + torch.relu(x - 0.5) ** 2).sum() * 10)
    previous = None
    for iterate in minimise(evaluate, uniform(0.4, 0.9), iterations=20):
        if previous is not None:
            length = float((iterate.image - previous).square().mean().sqrt())
            assert length <= LONGEST_STEP * (1 + 1e-9)
        previous = iterate.image.clone()


def test_recovers_from_a_non_finite_loss_from_the_best_picture() -> None:
    target = uniform(0.2, 0.8)
    good = curved(target)
    calls = []

    def evaluate(image: Tensor) -> Evaluation:
        calls.append(image.clone())
        evaluation = good(image)
        if len(calls) in (5, 9):
            bad = torch.tensor(math.nan if len(calls) == 5 else math.inf)
            return Evaluation(Terms(bad, {}, {}, torch.zeros(())), evaluation.gradient)
        return evaluation

    iterates = list(minimise(evaluate, torch.full_like(target, 0.5), iterations=60))
    assert all(math.isfinite(i.loss) for i in iterates)
    losses = [float(good(c).terms.total) for c in calls[:4]]
    assert torch.equal(calls[5], calls[losses.index(min(losses))])
    assert iterates[-1].iteration == 60
    assert iterates[-1].loss < iterates[0].loss * 1e-3


def test_a_non_finite_gradient_counts_too() -> None:
    def evaluate(image: Tensor) -> Evaluation:
        terms = Terms(torch.tensor(1.0), {}, {}, torch.zeros(()))
        return Evaluation(terms, torch.full_like(image, math.nan))

    with pytest.raises(NonFiniteLoss, match="starting picture"):
        list(minimise(evaluate, uniform(0, 1), iterations=3))


def test_gives_up_when_every_restart_fails() -> None:
    start = uniform(0, 1)

    def evaluate(image: Tensor) -> Evaluation:
        total = torch.tensor(1.0 if torch.equal(image, start) else math.nan)
        return Evaluation(Terms(total, {}, {}, torch.zeros(())), torch.ones_like(image))

    with pytest.raises(NonFiniteLoss, match=r"after 6 iterations.*5 restarts"):
        list(minimise(evaluate, start, iterations=30))


def test_a_start_that_is_the_minimum_stays() -> None:
    target = uniform(0.2, 0.8)
    *_, last = minimise(curved(target), target, iterations=5)
    assert torch.equal(last.image, target)
    assert last.loss == 0


def test_the_start_is_not_changed() -> None:
    start = uniform(0, 1)
    before = start.clone()
    list(minimise(curved(uniform(0.2, 0.8, seed=2)), start, iterations=3))
    assert torch.equal(start, before)


def test_an_unknown_optimizer_is_named() -> None:
    with pytest.raises(InvalidInput, match="optimizer is 'newton'"):
        list(minimise(curved(uniform(0, 1)), uniform(0, 1), iterations=1, optimizer="newton"))
