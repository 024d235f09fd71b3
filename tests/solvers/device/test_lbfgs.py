"""L-BFGS without a number fetched: the same path as the solver that the host leads."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from fastnst.errors import NonFiniteLoss
from fastnst.evaluation import Evaluation, Terms
from fastnst.solvers.device.loop import minimise_on_device
from fastnst.solvers.minimise import minimise
from fastnst.solvers.projected import FIRST_STEP, LONGEST_STEP
from fastnst.solvers.restarts import RESTARTS
from helpers.functions import (
    Evaluate,
    assert_same_path,
    curved,
    evaluator,
    failing,
    path_of,
    uniform,
)


def rugged(x: Tensor, height: float) -> Tensor:
    """Curved up and down: some pairs have no positive curvature, and no bound is reached."""
    weights = torch.logspace(0, 1.3, x.numel(), dtype=x.dtype).view_as(x)
    return (height * torch.sin(40 * x) + weights * (x - 0.5) ** 2).sum()


@pytest.mark.parametrize("stepwise", [True, False])
@pytest.mark.parametrize("history_size", [1, 4, 10, 100])
@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral"])
def test_the_path_is_that_of_the_host(optimizer: str, history_size: int, stepwise: bool) -> None:
    """For so long that short histories go round; inside, and along the bounds.

    Rounding grows on the way: along the bounds by three digits in ten iterations.
    """
    for target, iterations in ((uniform(0.4, 0.6), 70), (uniform(-0.5, 1.5), 35)):
        weights = torch.logspace(0, 1, target.numel(), dtype=target.dtype).view_as(target)
        evaluate = evaluator(lambda x, w=weights, t=target: (w * (x - t) ** 2).sum())
        start = uniform(0, 1, seed=1)
        common = {"iterations": iterations, "history_size": history_size, "optimizer": optimizer}
        theirs = path_of(minimise(evaluate, start, **common))
        ours = path_of(minimise_on_device(evaluate, start, **common, stepwise=stepwise))
        assert_same_path(ours, theirs, 1e-6)


def pairs_stored(evaluate: Evaluate, start: Tensor, iterations: int, optimizer: str) -> list[int]:
    iterates = minimise_on_device(
        evaluate, start, iterations=iterations, optimizer=optimizer, stepwise=True
    )
    return [iterate.state().numbers["used"] for iterate in iterates]


@pytest.mark.parametrize(("optimizer", "height"), [("lbfgs", 0.01), ("spectral", 0.012)])
def test_pairs_without_positive_curvature_are_left_out(optimizer: str, height: float) -> None:
    evaluate, start = evaluator(lambda x: rugged(x, height)), uniform(0.1, 0.9, seed=3)
    used = pairs_stored(evaluate, start, 30, optimizer)
    left_out = sum(b == a for a, b in itertools.pairwise(used[2:]))
    assert 0 < left_out < 27  # some were, some were not
    common = {"iterations": 30, "optimizer": optimizer}
    theirs = path_of(minimise(evaluate, start, **common))
    assert_same_path(path_of(minimise_on_device(evaluate, start, **common)), theirs, 1e-9)


@pytest.mark.parametrize("stepwise", [True, False])
@pytest.mark.parametrize(
    "bad", [{5: math.nan, 9: math.inf}, {2: math.nan}, {4: math.nan, 5: math.nan}, {24: math.nan}]
)
@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral"])
def test_a_value_that_is_not_finite_starts_afresh_from_the_best(
    optimizer: str, bad: dict, stepwise: bool
) -> None:
    """Also twice in a row, and at the last iteration of all."""
    target = uniform(0.3, 0.7)
    start = uniform(0, 1, seed=1)
    evaluate, calls = failing(curved(target), bad)
    common = {"iterations": 23, "history_size": 4, "optimizer": optimizer}
    theirs = path_of(minimise(evaluate, start, **common))
    replayed, ours_calls = failing(curved(target), bad)
    ours = path_of(minimise_on_device(replayed, start, **common, stepwise=stepwise))
    assert_same_path(ours, theirs, 1e-9)
    assert len(ours_calls) == len(calls)
    assert ours[-1][0] == 23


def test_a_gradient_that_is_not_finite_counts_too() -> None:
    good = curved(uniform(0.3, 0.7))
    calls = 0

    def evaluate(image: Tensor) -> Evaluation:
        nonlocal calls
        calls += 1
        found = good(image)
        return Evaluation(found.terms, found.gradient * (math.nan if calls == 6 else 1))

    iterates = path_of(minimise_on_device(evaluate, uniform(0, 1), iterations=12))
    assert [e - i for i, e, _, _ in iterates] == [1] * 5 + [2] * 8
    assert all(bool(image.isfinite().all()) for _, _, _, image in iterates)


def test_gives_up_when_every_restart_fails() -> None:
    start = uniform(0, 1)

    def evaluate(image: Tensor) -> Evaluation:
        total = torch.tensor(1.0 if torch.equal(image, start) else math.nan)
        return Evaluation(Terms(total, {}, {}, torch.zeros(())), torch.ones_like(image))

    for solve in (minimise, minimise_on_device):
        with pytest.raises(NonFiniteLoss, match=r"after 6 iterations.*5 restarts"):
            list(solve(evaluate, start, iterations=30))
    assert RESTARTS == 5


def test_a_start_that_is_not_finite_is_an_error() -> None:
    def evaluate(image: Tensor) -> Evaluation:
        return Evaluation(
            Terms(torch.tensor(1.0), {}, {}, torch.zeros(())), torch.full_like(image, math.nan)
        )

    with pytest.raises(NonFiniteLoss, match="starting picture"):
        list(minimise_on_device(evaluate, uniform(0, 1), iterations=3))


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_first_step_moves_whatever_the_scale_of_the_loss(scale: float) -> None:
    target = uniform(0.2, 0.8, dtype=torch.float32)
    evaluate = evaluator(lambda x: scale * ((x - target) ** 2).sum())
    images = [p[3] for p in path_of(minimise_on_device(evaluate, torch.full_like(target, 0.5),
                                                    iterations=12))]  # fmt: skip
    assert float((images[1] - images[0]).abs().mean()) == pytest.approx(FIRST_STEP, rel=1e-3)
    assert float((images[-1] - target).abs().max()) < 1e-3


def test_no_step_is_longer_than_the_longest_and_none_leaves_the_range() -> None:
    evaluate = evaluator(lambda x: (1e-3 * x + torch.relu(x - 0.5) ** 2).sum() * 10)
    iterates = path_of(minimise_on_device(evaluate, uniform(-0.4, 1.3), iterations=20))
    images = [image for _, _, _, image in iterates]
    lengths = [float((b - a).square().mean().sqrt()) for a, b in itertools.pairwise(images)]
    assert max(lengths) == pytest.approx(LONGEST_STEP, rel=1e-6)  # it was cut
    assert max(lengths) <= LONGEST_STEP * (1 + 1e-9)
    assert min(float(image.min()) for image in images) >= 0
    assert max(float(image.max()) for image in images) <= 1


def test_a_start_that_is_the_minimum_stays() -> None:
    target = uniform(0.2, 0.8)
    *_, last = minimise_on_device(curved(target), target, iterations=5)
    assert torch.equal(last.image, target)
    assert last.loss == 0
