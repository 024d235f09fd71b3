"""Functions whose minimum is known, for the solvers."""

from __future__ import annotations

import torch
from torch import Tensor

from fastnst.evaluation import Evaluation, Terms


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
