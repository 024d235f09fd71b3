"""How long threads wait for each other: long on a quiet machine, briefly on a busy one.

Between two parallel pieces of work a thread that has nothing to do spins, because waking it from
sleep takes longer than most waits. Where other work wants the same processors, that spinning takes
the time of the very thread that is waited for: PyTorch's OpenMP runtime spins for milliseconds, and
a run becomes several times slower. So the system is asked now and then how long threads of this
process have waited for a processor, and where that is long, threads that wait for each other are
made to sleep.

It holds for the compiled kernels and for PyTorch's operators, which share one OpenMP runtime.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from fastnst.ops import extension
from fastnst.ops.extension import loaded

# Who sets one of these has decided how threads wait.
OWN_CHOICE = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

PERIOD = 0.1  # seconds between two looks
# Seconds that a thread which could compute waits for a processor, a second of time. Measured with
# two threads in pieces of 1 to 160 ms, spinning or not: at most 0.04 on a quiet machine, at least
# 0.17 beside one, two or four busy threads.
BUSY = 0.12
QUIET = 0.06

# Linux keeps a file for each thread: nanoseconds computed, nanoseconds waited for a processor,
# turns taken.
THREADS = Path("/proc/self/task")


class Waiting:
    """Watches one process and decides how its threads wait.

    Args:
        waited: Seconds that the threads of the process have waited for a processor, all together.
            It goes back when a thread ends.
        clock: Seconds.
        wait_briefly: Called with what threads are to do from now on.
    """

    def __init__(
        self,
        waited: Callable[[], float],
        clock: Callable[[], float],
        wait_briefly: Callable[[bool], None],
    ) -> None:
        self._waited = waited
        self._clock = clock
        self._wait_briefly = wait_briefly
        self._since: tuple[float, float] | None = None
        self.briefly = False

    def look(self, threads: int) -> None:
        """Decide again, if the last decision is ``PERIOD`` or more ago.

        Args:
            threads: How many threads of the process compute.
        """
        now = self._clock()
        if self._since is not None and now - self._since[0] < PERIOD:
            return
        waited, since = self._waited(), self._since
        self._since = now, waited
        if since is None or waited < since[1]:
            return
        share = (waited - since[1]) / (now - since[0]) / threads
        briefly = share > (QUIET if self.briefly else BUSY)
        if briefly != self.briefly:
            self.briefly = briefly
            self._wait_briefly(briefly)


def unavailable_reason() -> str | None:
    """Why this process cannot be told how its threads wait, or None if it can."""
    if not extension.is_available():
        return extension.unavailable_reason()
    if not (THREADS / str(os.getpid()) / "schedstat").is_file():
        return "this system does not say how long a thread waited for a processor"
    if not loaded().can_wait_briefly():
        return "the extension was not built with GCC's OpenMP"
    for name in OWN_CHOICE:
        if name in os.environ:
            return f"{name} is set"
    return None


def _waited() -> float:
    total = 0
    for thread in THREADS.iterdir():
        try:
            total += int((thread / "schedstat").read_text().split()[1])
        except OSError:  # it has ended
            continue
    return total / 1e9


_waiting: Waiting | None = None
if unavailable_reason() is None:
    _waiting = Waiting(
        _waited,
        time.monotonic,
        lambda briefly: loaded().wait_briefly(briefly, torch.get_num_threads()),
    )


def look() -> None:
    """Decide how threads wait; called in each iteration and convolution, and next to free."""
    threads = torch.get_num_threads()
    if _waiting is not None and threads > 1:
        _waiting.look(threads)
