"""The contract between the objective and the solver: image → (loss terms, gradient)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from fastnst.objective import Terms


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the objective.

    Attributes:
        terms: The loss and its parts, detached, on the engine's device.
        gradient: dL/dx, ``(1, 3, H, W)`` float32; the engine may reuse its memory at the next
            evaluation.
        precision: Of the features that both were computed from: ``fp32`` or ``bf16``.
    """

    terms: Terms
    gradient: Tensor
    precision: str = "fp32"


class Engine(Protocol):
    """A way of computing the objective and its gradient."""

    name: str
    precision: str  # of the features: fp32, bf16 or mixed

    @property
    def provider(self) -> str | None:
        """What runs the graph of engine ``onnx``; None for the others."""
        ...

    def evaluate(self, image: Tensor) -> Evaluation:
        """The objective and its gradient at ``image`` ``(1, 3, H, W)``, which is left as it is."""
        ...
