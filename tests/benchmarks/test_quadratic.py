"""The objective that costs nothing."""

from __future__ import annotations

import torch

from benchmarks.quadratic import Quadratic


def test_its_gradient_is_that_of_autograd() -> None:
    quadratic = Quadratic((1, 3, 4, 5), "cpu")
    x = quadratic.start.clone().requires_grad_()
    loss = 0.5 * (quadratic.curvature * (x - quadratic.target) ** 2).sum()
    (expected,) = torch.autograd.grad(loss, x)
    evaluation = quadratic.evaluate(quadratic.start)
    for value, gradient in (
        quadratic(quadratic.start),
        (evaluation.terms.total, evaluation.gradient),
    ):
        torch.testing.assert_close(value, loss.detach())
        torch.testing.assert_close(gradient, expected)


def test_it_counts_its_own_seconds_only_when_called() -> None:
    quadratic = Quadratic((1, 3, 4, 5), "cpu")
    quadratic.evaluate(quadratic.start)
    assert quadratic.seconds == 0
    quadratic(quadratic.start)
    assert quadratic.seconds > 0
