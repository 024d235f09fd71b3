"""Adam and averages of iterates: closed forms, bounds, and a run."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

import fastnst
from fastnst import minimise
from fastnst.evaluation import Evaluation, Terms
from fastnst.solvers.adam import BETAS, IterateAverage
from helpers.functions import failing, saved
from helpers.pictures import smooth

SHAPE = (1, 3, 5, 4)


def quadratic(target: Tensor, scales: Tensor):
    def evaluate(image: Tensor) -> Evaluation:
        difference = image - target
        total = (scales * difference.square()).sum()
        return Evaluation(Terms(total, {}, {}, total.new_zeros(())), 2 * scales * difference)

    return evaluate


def problem(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(SHAPE, generator=generator)
    return target, 10 ** torch.empty(SHAPE).uniform_(-2, 2, generator=generator)


def test_steps_are_those_of_the_paper() -> None:
    """Kingma & Ba 2015, algorithm 1, with the clamp."""
    target, scales = problem()
    target = 3 * target - 1  # some of it out of range
    evaluate = quadratic(target, scales)
    x = torch.full(SHAPE, 0.5, dtype=torch.float64)
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    runs = minimise(evaluate, x.float(), iterations=12, optimizer="adam", learning_rate=0.1)
    for k, iterate in enumerate(runs):
        # float32 against float64
        torch.testing.assert_close(iterate.image.double(), x, atol=1e-5, rtol=0)
        gradient = evaluate(x).gradient
        m = BETAS[0] * m + (1 - BETAS[0]) * gradient
        v = BETAS[1] * v + (1 - BETAS[1]) * gradient**2
        step = m / (1 - BETAS[0] ** (k + 1)) / ((v / (1 - BETAS[1] ** (k + 1))).sqrt() + 1e-8)
        x = (x - 0.1 * step).clamp(0, 1)


def test_it_converges() -> None:
    target, scales = problem()
    *_, last = minimise(
        quadratic(target, scales), torch.zeros(SHAPE), iterations=300, optimizer="adam"
    )
    assert float((last.image - target).abs().max()) < 0.05


def test_the_average_is_exponential_and_without_bias() -> None:
    pictures = [torch.full((2, 2), float(k)) for k in (1, 5, 2)]
    average = IterateAverage(0.5, pictures[0])
    for picture in pictures:
        average.add(picture)
    expected = (0.25 * 1 + 0.5 * 5 + 1 * 2) / 1.75
    torch.testing.assert_close(average.value, torch.full((2, 2), expected))


def test_the_average_comes_last_and_is_better() -> None:
    """A rate so high that the iterates jitter around the minimum."""
    target, scales = problem(1)
    target = 0.3 + 0.4 * target
    runs = list(
        minimise(
            quadratic(target, scales), torch.rand(SHAPE), iterations=200, optimizer="adam",
            learning_rate=0.3, averaging=0.95,
        )
    )  # fmt: skip
    assert len(runs) == 202
    average, last = runs[-1], runs[-2]
    assert (average.iteration, last.iteration) == (200, 200)
    assert average.evaluations == 202
    assert average.loss == pytest.approx(
        float(quadratic(target, scales)(average.image).terms.total), rel=1e-6
    )
    worst = max(iterate.loss for iterate in runs[-20:-1])
    assert average.loss < worst


def test_a_run_with_adam() -> None:
    content, style = smooth(48, 36), smooth(40, 44, seed=1)
    settings = {"size": 48, "iterations": 40, "init": "content", "optimizer": "adam"}
    result = fastnst.stylize(content, style, **settings, averaging=0.9)
    assert result.losses.total < result.history[0].total / 2
    assert result.evaluations == 42
    assert result.iterations == 40
    assert 0 <= result.pixels.min() <= result.pixels.max() <= 1


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_the_state_beside_the_average_is_that_of_the_last_iterate(optimizer: str) -> None:
    """Though its evaluation has reused the memory of the last gradient, as engines do."""
    good, memory = quadratic(*problem(2)), torch.empty(SHAPE)

    def evaluate(image: torch.Tensor) -> Evaluation:
        found = good(image)
        return Evaluation(found.terms, memory.copy_(found.gradient))

    start = torch.rand(SHAPE)
    settings = {"optimizer": optimizer, "averaging": 0.7, "history_size": 5}
    states = [saved(it) for it in minimise(evaluate, start, iterations=4, **settings)]
    assert states[-1].difference(states[-2]) is None
    whole = [it.loss for it in minimise(evaluate, start, iterations=6, **settings)]
    rest = minimise(evaluate, start, iterations=6, **settings, resume=states[-1])
    assert [it.loss for it in rest] == whole[5:]


def test_a_run_of_no_iterations_can_be_prolonged_and_one_of_some_ended_at_once() -> None:
    """With an average of the iterates, of which the start is none."""
    evaluate, start, settings = quadratic(*problem(2)), torch.rand(SHAPE), {"averaging": 0.7}
    (begun,) = [saved(it) for it in minimise(evaluate, start, iterations=0, **settings)]
    whole = [it.loss for it in minimise(evaluate, start, iterations=5, **settings)]
    rest = minimise(evaluate, start, iterations=5, **settings, resume=begun)
    assert [it.loss for it in rest] == whole[1:]
    few = [saved(it) for it in minimise(evaluate, start, iterations=3, **settings)]
    assert not [
        it for it in minimise(evaluate, start, iterations=0, **settings, resume=few[0])
        if not it.averaged
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"history_size": 0}, "history_size is 0: expected 1 or more"),
        ({"history_size": -1}, "history_size is -1: expected 1 or more"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0: expected a finite number, 0 or more"),
        (
            {"learning_rate": float("nan")},
            "learning_rate is nan: expected a finite number, 0 or more",
        ),
        ({"averaging": 1.0}, "averaging is 1.0: expected at least 0 and less than 1"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd': choose one of lbfgs, "),
    ],
)
def test_what_minimise_cannot_use_is_named(wrong: dict[str, Any], message: str) -> None:
    target, scales = problem(1)
    with pytest.raises(fastnst.InvalidInput, match=re.escape(message)):
        next(minimise(quadratic(target, scales), torch.rand(SHAPE), iterations=3, **wrong))


def test_steps_are_a_quarter_as_long_after_a_value_that_is_not_finite() -> None:
    """The first step of Adam is its rate along each axis, whatever the gradient."""
    target, scales = problem()
    evaluate, calls = failing(quadratic(1 + target, scales), {2: math.nan})
    rate = {"optimizer": "adam", "learning_rate": 0.1}
    runs = list(minimise(evaluate, torch.full(SHAPE, 0.5), iterations=2, **rate))
    # float32
    torch.testing.assert_close(calls[1] - calls[0], torch.full(SHAPE, 0.1), atol=1e-6, rtol=0)
    assert torch.equal(calls[2], calls[0])  # from the best again
    torch.testing.assert_close(calls[3] - calls[2], torch.full(SHAPE, 0.025), atol=1e-6, rtol=0)
    assert runs[-1].iteration == 2
