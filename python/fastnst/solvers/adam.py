"""Adam on the pixels, with every iterate inside the range of a picture, and averages of iterates.

The steps of Adam keep a length of about the learning rate, so its iterates go on jittering around a
minimum; an exponential moving average of them lies lower and shows no grain (Polyak & Juditsky
1992; for style transfer: K. Crowson's style-transfer-pytorch).

Adam's steps do not depend on the scale of the objective, but for its ε = 1e-8, which is added to
the root mean square of the gradient, and for the range of float32, which has its square. So the
gradient is multiplied by a power of two that brings the mean of its first values near ``MEAN``: ε
is less than a rounding of a value a thousandth of that, and the squares of float32 go far beyond
it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastnst.evaluation import Evaluation
from fastnst.solvers.solver import Setup, towards_one
from fastnst.solvers.state import State

MEAN = 2.0**10  # of the gradient that torch's Adam sees first, about
BETAS = (0.9, 0.99)  # 0.999, Adam's default, remembers too long for the few steps of a picture


class Adam:
    """Takes Adam's steps (Kingma & Ba 2015, algorithm 1), each clamped to the range of a picture.

    Args:
        setup: The picture, its range, the learning rate, the scale of the steps, and the norm of
            the gradient, from which its scale follows.

    Attributes:
        scale: The power of two by which gradients are multiplied.
    """

    def __init__(self, setup: Setup) -> None:
        self.image = setup.image
        self.bounds = setup.bounds
        self.placement = setup.placement
        mean = setup.gradient_norm1 / setup.placement.count(setup.image)
        self.scale = towards_one(mean / MEAN)
        rate = setup.learning_rate * setup.step_scale
        self.optimizer = torch.optim.Adam([setup.image], lr=rate, betas=BETAS)
        if setup.placement.store is not None:  # else torch makes them at the first step
            self.optimizer.state[setup.image] = {
                "step": torch.zeros((), dtype=torch.float32, device="cpu"),
                "exp_avg": setup.placement.copy(setup.image).zero_(),
                "exp_avg_sq": setup.placement.copy(setup.image).zero_(),
            }

    def measure(self, evaluation: Evaluation) -> float:
        """‖g‖₁ of an evaluation at the picture; see ``Solver``."""
        return float(self.placement.norm1(evaluation.gradient))

    def step(self, evaluation: Evaluation) -> None:
        """Take one step from the picture, in place; ``evaluation`` was made at the picture."""
        self.image.grad = evaluation.gradient * self.scale
        self.optimizer.step()
        self.image.grad = None
        self.image.clamp_(*self.bounds)

    def state(self) -> State:
        """Moments, scale and the number of steps, from which ``restore`` goes on bit for bit."""
        return State({"scale": self.scale}, dict(self.optimizer.state[self.image]))

    def restore(self, state: State) -> None:
        """Take the state of another Adam for a picture of this size."""
        shape = tuple(self.image.shape)
        self.scale = state.numbers["scale"]
        self.optimizer.state[self.image] = {
            "step": state.tensor("step", ()).clone(),
            "exp_avg": torch.empty_like(self.image).copy_(state.tensor("exp_avg", shape)),
            "exp_avg_sq": torch.empty_like(self.image).copy_(state.tensor("exp_avg_sq", shape)),
        }


class IterateAverage:
    """The exponential moving average of pictures, without a bias towards the first.

    Args:
        decay: In [0, 1): how much of the average each new picture leaves; about the last
            1 / (1 − decay) pictures count.
        like: A tensor of the pictures' shape, dtype and device.
    """

    def __init__(self, decay: float, like: Tensor) -> None:
        self.decay = decay
        self.sum = torch.zeros_like(like)
        self.weight = 0.0

    def add(self, image: Tensor) -> None:
        """Take a picture into the average."""
        self.sum.lerp_(image, 1 - self.decay)
        self.weight = self.decay * self.weight + (1 - self.decay)

    @property
    def value(self) -> Tensor:
        """The average of the pictures so far."""
        return self.sum / self.weight

    def state(self) -> State:
        """The weighted sum and its weight, from which ``restore`` goes on bit for bit."""
        return State({"weight": self.weight}, {"sum": self.sum})

    def restore(self, state: State) -> None:
        """Take the state of another average, of pictures of this size."""
        self.weight = state.numbers["weight"]
        self.sum.copy_(state.tensors["sum"])
