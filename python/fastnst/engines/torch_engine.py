"""PyTorch's autograd: the engine that runs everywhere, and the one that the others are held to."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from fastnst.devices import ordinary, rounds_to_tf32, undisturbed
from fastnst.evaluation import Engine, Evaluation, Terms
from fastnst.objective.objective import Objective


class TorchEngine(Engine):
    """Evaluates an objective by autograd.

    Args:
        objective: On the device and in the dtype of the pictures to come. Its style losses run in
            plain PyTorch (engine ``torch``) or in the compiled kernels (engine ``native``).
        precision: ``fp32``: the objective's own dtype; or ``bf16``: the network runs in bfloat16,
            the losses in float32.
        name: What the engine is called in results.
    """

    def __init__(self, objective: Objective, precision: str = "fp32", name: str = "torch") -> None:
        self.objective = objective
        self.precision = precision
        self.name = name
        of = objective.normalize.mean
        self.tf32 = rounds_to_tf32(of.device, torch.bfloat16 if precision == "bf16" else of.dtype)
        if precision == "bf16":
            self.objective = copy.deepcopy(objective)  # another engine may use the same one
            self.objective.network.to(torch.bfloat16)

    def evaluate(self, image: Tensor) -> Evaluation:
        """The objective and its gradient at ``image`` ``(1, 3, H, W)``."""
        with undisturbed(), torch.enable_grad():
            x = ordinary(image.detach()).requires_grad_()
            terms = self.objective(x)
            (gradient,) = torch.autograd.grad(terms.total, x)
        return Evaluation(_detached(terms), gradient, self.precision)


def _detached(terms: Terms) -> Terms:
    return Terms(
        terms.total.detach(),
        {name: loss.detach() for name, loss in terms.content.items()},
        {name: loss.detach() for name, loss in terms.style.items()},
        terms.tv.detach(),
        temporal=None if terms.temporal is None else terms.temporal.detach(),
    )
