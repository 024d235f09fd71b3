"""Functions whose minimum is known, for the solvers."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastnst.evaluation import Evaluation, Terms
from fastnst.solvers.iterate import Iterate
from fastnst.solvers.state import State

Evaluate = Callable[[Tensor], Evaluation]


def evaluator(function):
    def evaluate(image: Tensor) -> Evaluation:
        x = image.detach().requires_grad_()
        total = function(x)
        (gradient,) = torch.autograd.grad(total, x)
        return Evaluation(Terms(total.detach(), {}, {}, torch.zeros(())), gradient)

    return evaluate


def curved(target: Tensor):
    """A convex quadratic with condition number 1000 around ``target``."""
    weights = torch.logspace(0, 3, target.numel(), dtype=target.dtype).view_as(target)
    return evaluator(lambda x: (weights * (x - target) ** 2).sum())


def uniform(low: float, high: float, seed: int = 0, dtype=torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(1, 3, 6, 5, generator=generator, dtype=dtype)


def path_of(iterates) -> list[tuple[int, int, float, Tensor]]:
    return [(i.iteration, i.evaluations, i.loss, i.image.clone()) for i in iterates]


def assert_same_path(ours: list, theirs: list, tolerance: float) -> None:
    assert [(i, e) for i, e, _, _ in ours] == [(i, e) for i, e, _, _ in theirs]
    for (_, _, loss, image), (_, _, other, picture) in zip(ours, theirs, strict=True):
        torch.testing.assert_close(image, picture, rtol=0, atol=tolerance)
        assert loss == pytest.approx(other, rel=1e3 * tolerance, abs=tolerance)


def failing(good: Evaluate, calls_that_fail: dict[int, float]) -> tuple[Evaluate, list[Tensor]]:
    calls: list[Tensor] = []

    def evaluate(image: Tensor) -> Evaluation:
        calls.append(image.clone())
        evaluation = good(image)
        if len(calls) in calls_that_fail:
            bad = torch.tensor(calls_that_fail[len(calls)], dtype=image.dtype)
            return Evaluation(Terms(bad, {}, {}, torch.zeros(())), evaluation.gradient * bad)
        return evaluation

    return evaluate, calls


def saved(iterate: Iterate) -> State:
    state = iterate.state()
    copies = {name: tensor.clone() for name, tensor in state.tensors.items()}
    return State(json.loads(json.dumps(dict(state.numbers))), copies)
