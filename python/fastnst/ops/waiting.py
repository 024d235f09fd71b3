"""How long threads wait for each other: long on a quiet machine, briefly on a busy one.

Between two parallel pieces of work a thread that has nothing to do spins, because waking it from
sleep takes longer than most waits. Where other work wants the same processors, that spinning takes
the time of the very thread that is waited for: PyTorch's OpenMP runtime spins for milliseconds, and
a run becomes several times slower. So the system is asked now and then how often it has taken the
processor away from this process, and where that is often, waiting threads are made to sleep.

It holds for the compiled kernels and for PyTorch's operators, which share one OpenMP runtime.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch

from fastnst.ops import extension
from fastnst.ops.extension import loaded

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Who sets one of these has decided how threads wait.
OWN_CHOICE = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

PERIOD = 0.1  # seconds between two looks
# Involuntary context switches a second. Measured with two threads, spinning or not: 25 to 62 on a
# quiet machine, which the system's own work takes; 128 to 750 beside one or two busy threads.
BUSY = 65.0
QUIET = 50.0
HOUSEKEEPING = 15.0  # of them for each thread come from the system's own work and do not count


class Waiting:
    """Watches one process and decides how its threads wait.

    Args:
        switches: How many times the process has lost a processor, since it began.
        clock: Seconds.
        wait_briefly: Called with what threads are to do from now on.
    """

    def __init__(
        self,
        switches: Callable[[], int],
        clock: Callable[[], float],
        wait_briefly: Callable[[bool], None],
    ) -> None:
        self._switches = switches
        self._clock = clock
        self._wait_briefly = wait_briefly
        self._since: tuple[float, int] | None = None
        self.briefly = False

    def look(self, threads: int) -> None:
        """Decide again, if the last decision is ``PERIOD`` or more ago.

        Args:
            threads: How many threads of the process compute.
        """
        now = self._clock()
        if self._since is not None and now - self._since[0] < PERIOD:
            return
        switches, since = self._switches(), self._since
        self._since = now, switches
        if since is None:
            return
        rate = (switches - since[1]) / (now - since[0]) - HOUSEKEEPING * threads
        briefly = rate > (QUIET if self.briefly else BUSY)
        if briefly != self.briefly:
            self.briefly = briefly
            self._wait_briefly(briefly)


def unavailable_reason() -> str | None:
    """Why this process cannot be told how its threads wait, or None if it can."""
    if not extension.is_available():
        return extension.unavailable_reason()
    if resource is None:
        return "this system does not say how often a process lost a processor"
    if not loaded().can_wait_briefly():
        return "the extension was not built with GCC's OpenMP"
    for name in OWN_CHOICE:
        if name in os.environ:
            return f"{name} is set"
    return None


def _switches() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


_waiting: Waiting | None = None
if unavailable_reason() is None:
    _waiting = Waiting(
        _switches,
        time.monotonic,
        lambda briefly: loaded().wait_briefly(briefly, torch.get_num_threads()),
    )


def look() -> None:
    """Decide how threads wait; called in each iteration and convolution, and next to free."""
    threads = torch.get_num_threads()
    if _waiting is not None and threads > 1:
        _waiting.look(threads)
