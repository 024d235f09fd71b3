"""The contract between engines and solvers: image → (loss and its parts, gradient)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Terms:
    """The value of the objective at a picture, whole and in parts (all 0-dimensional).

    Attributes:
        total: L, the weighted sum.
        content: c_l by layer, unweighted.
        style: g_l by layer, unweighted.
        tv: tv(x), unweighted; zero where its weight is zero (it is not computed then).
        row: All of them in this order, ``(T,)``, where the engine has them in one tensor; the
            temporal term, where there is one, comes last.
        temporal: t(x), unweighted; None where the objective has no temporal term.
    """

    total: Tensor
    content: Mapping[str, Tensor]
    style: Mapping[str, Tensor]
    tv: Tensor
    row: Tensor | None = None
    temporal: Tensor | None = None


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the objective.

    Attributes:
        terms: The loss and its parts, detached, on the engine's device.
        gradient: dL/dx, ``(1, 3, H, W)`` float32; the engine may reuse its memory at the next
            evaluation.
        precision: Of what both were computed from: ``fp32``, ``int16`` or ``bf16``.
    """

    terms: Terms
    gradient: Tensor
    precision: str = "fp32"


class Engine(Protocol):
    """A way of computing the objective and its gradient.

    Attributes:
        name: What the engine is called in results: ``torch``, ``native`` or ``onnx``.
        precision: ``fp32``, ``int16``, ``bf16`` or ``mixed``.
        provider: What runs the graph of engine ``onnx``; None for the others.
        capturable: Whether an evaluation launches work on the device alone, so that it can be
            recorded as a CUDA graph and run without the host.
        device_only: Whether ``evaluate`` fetches nothing to the host, so that the solver may run on
            the device alone.
        tf32: Whether products of float32 features are rounded to TF32, as PyTorch's flags allow it
            on a GPU.
    """

    name: str
    precision: str
    provider: str | None = None
    capturable: bool = False
    device_only: bool = False
    tf32: bool = False

    def evaluate(self, image: Tensor) -> Evaluation:
        """The objective and its gradient at ``image`` ``(1, 3, H, W)``, which is left as it is."""
        ...

    def launch(self, image: Tensor) -> Evaluation:
        """Evaluate without looking at what is found, for a solver that hands totals to ``note``.

        It hands over those of the iterates that it shows: on the device alone when it reads them.
        """
        return self.evaluate(image)

    def note(self, loss: float) -> bool:  # noqa: ARG002 - for engines with a memory
        """Take the total of an evaluation that was launched.

        Returns:
            Whether the evaluations to come are others, so that a recording is out of date.
        """
        return False

    def resume(self, losses: Sequence[float]) -> str:  # noqa: ARG002 - for engines with a memory
        """Bring the engine to the state that it had at a checkpoint.

        Args:
            losses: The totals of the evaluations that were done before the checkpoint, in order.

        Returns:
            The precision of the last of those evaluations.
        """
        return self.precision
