"""Precision by need: bfloat16 while it makes progress, and a finer one to the end.

The gradient in bfloat16 is wrong by some per cent of its own length at the start, which no step
notices, and by most of it near the end, where it stalls. So the first of an engine's evaluations
are in bfloat16, and once the loss falls by less than ``PROGRESS`` in ``WINDOW`` of them it goes on
in float32, or in int16 where a processor has its products, and does not return. With a smaller
``PROGRESS`` runs are quicker and end higher: docs/performance.md has the numbers.

Nearly all of that error comes from the features. So an engine in float32 that can (``native`` on a
CPU) multiplies in bfloat16 to the end on the way back.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from torch import Tensor

from fastnst.devices import undisturbed
from fastnst.evaluation import Engine, Evaluation

WINDOW = 10  # evaluations
PROGRESS = 0.03  # share of the loss


class MixedEngine(Engine):
    """Evaluates in bf16 until that stalls, then in a finer precision.

    Args:
        create: Makes the engine of a precision, ``bf16`` or the finer one.
        finer: The latter: ``fp32`` or ``int16``.

    Attributes:
        finer: The same.
    """

    precision = "mixed"

    def __init__(self, create: Callable[[str], Engine], finer: str = "fp32") -> None:
        self.finer = finer
        self._create = create
        self._stalled = False
        self._engine: Engine | None = create("bf16")
        # the lowest loss so far after each of the last evaluations in bf16
        self._losses: deque[float] = deque(maxlen=WINDOW + 1)
        self.name = self._engine.name
        self.provider = self._engine.provider
        self.capturable = self._engine.capturable
        self.device_only = self._engine.device_only
        self.tf32 = self._engine.tf32

    def evaluate(self, image: Tensor) -> Evaluation:
        """The objective and its gradient at ``image`` ``(1, 3, H, W)``."""
        evaluation = self.launch(image)
        self.note(float(evaluation.terms.total))
        return evaluation

    def launch(self, image: Tensor) -> Evaluation:
        """``evaluate`` without looking at the loss, for a solver that hands losses to ``note``."""
        if self._stalled and (self._engine is None or self._engine.precision == "bf16"):
            self._engine = None  # its buffers are freed before those of the next are allocated
            with undisturbed():
                self._engine = self._create(self.finer)
        assert self._engine is not None
        return self._engine.evaluate(image)

    def resume(self, losses: Sequence[float]) -> str:
        """Come to the state of an engine that has found ``losses``, for a run that goes on.

        Args:
            losses: The totals of the evaluations before, in their order; at least one.

        Returns:
            The precision of the last of them.
        """
        precision = self._precision()
        for loss in losses:
            precision = self._precision()
            self.note(loss)
        return precision

    def _precision(self) -> str:
        """That of the next evaluation."""
        return self.finer if self._stalled else "bf16"

    def note(self, loss: float) -> bool:
        """Take the total of an evaluation; whether bf16 has stalled with it."""
        if self._stalled or not math.isfinite(loss):
            return False
        best = self._losses
        best.append(min(loss, best[-1]) if best else loss)
        self._stalled = len(best) > WINDOW and best[-1] > (1 - PROGRESS) * best[0]
        return self._stalled
