"""How long a run has computed, over all its scales and over an interruption."""

from __future__ import annotations

import time


class Clock:
    """Stands still between scales.

    Attributes:
        before: Seconds that it has run, up to the last time that it was stopped.
    """

    def __init__(self) -> None:
        self.before = 0.0
        self._began: float | None = None

    def start(self) -> None:
        """Let it run."""
        self._began = time.perf_counter()

    def stop(self) -> None:
        """Let it stand still."""
        self.before, self._began = self.seconds(), None

    def seconds(self) -> float:
        """How long it has run."""
        since = 0.0 if self._began is None else time.perf_counter() - self._began
        return self.before + since
