"""Ctrl-C between two iterations, where the state of a run is whole and can be saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastnst.run.result import Step


@contextlib.contextmanager
def interrupted_between_steps() -> Iterator[Callable[[Step], None]]:
    """Within, Ctrl-C waits for the end of the iteration; a second one does not.

    Yields:
        What to call after each step: it raises ``KeyboardInterrupt`` if Ctrl-C was pressed. Until
        its first call, Ctrl-C acts at once.
    """
    pressed = False
    previous = signal.getsignal(signal.SIGINT)
    waits = False

    def press(_: int, __: FrameType | None) -> None:
        nonlocal pressed
        if pressed or not waits:
            raise KeyboardInterrupt
        pressed = True

    def between(_: Step) -> None:
        nonlocal waits
        waits = True
        if pressed:
            raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread() and callable(previous)
    if ours:  # another thread may not change it, and an ignored Ctrl-C stays ignored
        signal.signal(signal.SIGINT, press)
    try:
        yield between
    finally:
        if ours:
            signal.signal(signal.SIGINT, previous)
