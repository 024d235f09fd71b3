"""``torch.optim.LBFGS`` as a projected solver: the reference that ``lbfgs.py`` is held to."""

from __future__ import annotations

import torch
from torch import Tensor

from fastnst.evaluation import Evaluation
from fastnst.solvers.projected import ProjectedSolver
from fastnst.solvers.state import State
from fastnst.solvers.vectors import PLAIN, Placement, Vector


class TorchLBFGS(ProjectedSolver):
    """Takes the steps of ``torch.optim.LBFGS``, cut and clamped as those of ``LBFGS`` are."""

    def place(self, placement: Placement) -> Placement:  # noqa: ARG002
        """One band, in the memory that torch takes for itself."""
        return PLAIN

    def prepare(self, history_size: int, first: float, gradient_norm1: float) -> None:
        """Set up the method; see ``ProjectedSolver``."""
        # The objective is scaled so that ‖g‖₁ becomes the number of values: torch ignores
        # curvature pairs with yᵀs ≤ 1e-10, which small losses have.
        self.scale = self.image.numel() / gradient_norm1 if gradient_norm1 > 0 else 1.0
        self.optimizer = torch.optim.LBFGS(
            [self.image],
            lr=first,  # for the step of length 1; then lr is 1
            max_iter=1,
            history_size=history_size,
            tolerance_grad=-1,  # no early stopping
            tolerance_change=-1,
        )

    def propose(self, evaluation: Evaluation) -> Vector:
        """The quasi-Newton step from ``image``."""

        def closure() -> Tensor:
            self.image.grad = evaluation.gradient * self.scale
            return evaluation.terms.total * self.scale

        before = self.image.clone()
        self.optimizer.step(closure)  # type: ignore[no-untyped-call]
        self.optimizer.param_groups[0]["lr"] = 1.0
        step = torch.sub(self.image, before)
        self.image.copy_(before)
        self._displacement = step.flatten()  # cut and clamped in place by ``step``
        return [self._displacement]

    def step(self, evaluation: Evaluation) -> None:
        """Take one step, and tell torch of the displacement that it really was."""
        super().step(evaluation)
        state = self.optimizer.state[self.image]  # its next pair has s = d · t
        state["d"] = self._displacement / state["t"]

    def state(self) -> State:
        """What ``restore`` needs to go on bit for bit."""
        own = {"scale": self.scale, "lr": self.optimizer.param_groups[0]["lr"]}
        state = self.optimizer.state[self.image]
        if not state:
            return State(own)
        counts = {name: state[name] for name in ("func_evals", "n_iter")}
        values = {name: float(state[name]) for name in ("t", "H_diag", "prev_loss")}
        tensors = {"d": state["d"], "prev_flat_grad": state["prev_flat_grad"]}
        for key, name in _PAIRS.items():
            tensors |= {f"{key}.{i}": tensor for i, tensor in enumerate(state[name])}
        return State({**own, **counts, **values, "pairs": len(state["ro"])}, tensors)

    def restore(self, state: State) -> None:
        """Take the state of another solver of this kind, for a picture of this size."""
        self.scale = state.numbers["scale"]
        self.optimizer.param_groups[0]["lr"] = state.numbers["lr"]
        if "n_iter" not in state.numbers:
            return
        own = self.optimizer.state[self.image]
        for name in ("func_evals", "n_iter", "t", "H_diag", "prev_loss"):
            own[name] = state.numbers[name]

        def load(name: str, shape: tuple[int, ...]) -> Tensor:
            saved = state.tensor(name, shape)
            return torch.empty_like(saved, device=self.image.device).copy_(saved)

        flat = (self.image.numel(),)
        own["d"], own["prev_flat_grad"] = load("d", flat), load("prev_flat_grad", flat)
        pairs = range(min(state.numbers["pairs"], self.optimizer.param_groups[0]["history_size"]))
        for key, name in _PAIRS.items():
            own[name] = [load(f"{key}.{i}", () if key == "ro" else flat) for i in pairs]


_PAIRS = {"y": "old_dirs", "s": "old_stps", "ro": "ro"}  # torch's names for y, s and 1 / yᵀs
