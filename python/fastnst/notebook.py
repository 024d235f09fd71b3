"""A line that follows a run, in a notebook or on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastnst.run.step import Step

PAUSE = 0.2  # seconds between two changes of the line


def in_notebook() -> bool:
    """Whether an IPython kernel runs this code, as in Jupyter. IPython is not imported."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def with_progress(
    callback: Callable[[Step], None] | None, progress: bool | None
) -> Callable[[Step], None] | None:
    """A run's callback that also shows how far the run is.

    Args:
        callback: The callback to call, if any.
        progress: Whether to show the line; None: in a notebook only.
    """
    if progress is False or (progress is None and not in_notebook()):
        return callback
    line = Line(_display() if in_notebook() else _write)

    def listen(step: Step) -> None:
        line.update(step)
        if callback is not None:
            callback(step)

    return listen


class Line:
    """A line of text about a run, changed a few times a second.

    Args:
        show: Shows a text in the place of the one before; the second argument says whether it is
            the last one.
        clock: The time in seconds.
    """

    def __init__(
        self, show: Callable[[str, bool], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._show, self._clock = show, clock
        self._next = -1.0

    def update(self, step: Step) -> None:
        """Show a step, unless another was shown just now; the last one always is."""
        last = step.iteration >= step.iterations
        now = self._clock()
        if last or now >= self._next:
            self._next = now + PAUSE
            self._show(
                f"iteration {step.iteration} of {step.iterations}, loss {step.losses.total:.4g}, "
                f"{step.seconds:.0f} s",
                last,
            )


def _write(text: str, last: bool) -> None:
    print(f"\r{text:<60}", end="\n" if last else "", file=sys.stderr, flush=True)


def _display() -> Callable[[str, bool], None]:
    from IPython.display import display

    handle: Any = None

    def show(text: str, _: bool) -> None:
        nonlocal handle
        data = {"text/plain": text}
        if handle is None:
            handle = display(data, raw=True, display_id=True)  # type: ignore[no-untyped-call, unused-ignore]
        else:
            handle.update(data, raw=True)

    return show
