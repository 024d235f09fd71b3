"""Ctrl-C, SIGTERM, SIGHUP and the like: what is done is saved, and the exit code says which it was.

From the start of the process a signal ends it in one line (``__main__.py``): there is nothing to
save, and an exception in the middle of an import would end as a traceback. Before the first
iteration it interrupts the preparation. From then on it waits for the end of the iteration, where
the state of a run is whole; a second one ends the process at once, even in the middle of compiled
code, by what the system does of itself.

One cause often sends several. Where a terminal is closed the shell sends SIGHUP and the system
another; ``timeout`` signals its child and then the child's group; a service manager adds SIGHUP to
SIGTERM. What comes within ``AT_ONCE`` seconds of the first is therefore not a second one.

By SIGUSR1 and SIGUSR2 batch systems announce that they will end a job. SIGXCPU comes at the limit
of processor time (``ulimit -S -t``) and each second from then on, so that nobody asks for an end at
once with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from typing_extensions import Self

    from fastnst.run.step import Step

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
REPEATED = getattr(signal, "SIGXCPU", None)  # which the system sends again by itself
AT_ONCE = 0.5  # seconds
INTERRUPTED = 128 + signal.SIGINT
WAITS = b"\nfastnst: stopping after this iteration; once more to end at once\n"
SHOW_CURSOR = b"\x1b[?25h"  # which a bar hides


class Interrupts:
    """Within, signals wait while there is something to be saved.

    Args:
        of_rank: Whether this process is one of several ranks. Their launcher passes Ctrl-C on to
            one of them, which stops all; SIGTERM ends what is left after a failure, without a word.

    Attributes:
        received: The number of the signal that came; 0: none.
    """

    def __init__(self, of_rank: bool = False) -> None:
        self.received = 0
        self._of_rank = of_rank
        self._waits = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # no other may
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before not in (signal.SIG_IGN, None):  # what is ignored stays ignored (nohup)
                    self._before[number] = before
                    signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            if number != REPEATED or number != self.received:  # it would end what is left to do
                signal.signal(number, before)

    @property
    def exit_code(self) -> int:
        """128 and the number of the signal: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP …"""
        return 128 + self.received if self.received else INTERRUPTED

    def after_step(self, _: Step | None = None) -> None:
        """To be called after each step: from the first on, signals wait for the next one.

        Raises:
            KeyboardInterrupt: if one came.
        """
        self._waits = True
        self._raise()

    def at_rest(self) -> None:
        """To be called when all is saved: signals act at once until the next step.

        Raises:
            KeyboardInterrupt: if one came.
        """
        self._waits = False
        self._raise()

    def leave(self) -> None:
        """To be called at the end of the work.

        Raises:
            typer.Exit: with ``exit_code``, if a signal came meanwhile.
        """
        if self.received:
            raise typer.Exit(self.exit_code)

    def _raise(self) -> None:
        if self.received:
            raise KeyboardInterrupt

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.received:
            return  # at once with the first one, which sleeps below
        self.received = number
        if self._waits and not (self._of_rank and number != signal.SIGINT):
            with contextlib.suppress(OSError):
                os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + WAITS)
        time.sleep(AT_ONCE)
        signal.raise_signal(number)  # or Python would find no handler for what came with this one
        for other in self._before:
            signal.signal(other, signal.SIG_IGN if other == REPEATED else signal.SIG_DFL)
        if not self._waits:
            raise KeyboardInterrupt
