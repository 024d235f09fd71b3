"""How the ranks of a run are started: what is asked for, and where a process finds itself.

The same command line runs three times over: the *launcher*, which a person starts, checks it and
starts a process for each rank of its machine with the same words; each *rank* finds its number in
the environment, as ``torchrun`` sets it; without either, a process works alone. Nothing here
imports torch: ``agent.py`` does what needs it.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

from fastnst.errors import InvalidInput

LOOPBACK = "127.0.0.1"
MOST_RANKS = 4096  # of a machine, and machines: more are a slip of the keyboard
SPEAKING = "fastnst-rank-"  # the names of threads that speak to the meeting point begin so
LAUNCHER = "FASTNST_LAUNCHER"  # its process id, which ranks that fastnst starts find there
INCOMPLETE = 65  # exit code of a rank that fails for its input: started again it would do no more
PARENT_SECONDS = 0.5  # between two looks at whether the launcher is still there


@dataclass(frozen=True)
class Plan:
    """The ranks that are asked for.

    Attributes:
        ranks: How many on each machine.
        least: The fewest machines to begin and to go on with.
        most: The most machines.
        join: ``HOST:PORT`` of the machine where all meet; None: on this machine alone.
        restarts: How often all ranks may be started again after one has failed.
    """

    ranks: int
    least: int = 1
    most: int = 1
    join: str | None = None
    restarts: int = 0


def read_plan(
    ranks: int | None, machines: str | None, join: str | None, restarts: int
) -> Plan | None:
    """What the options ask for; None: this process alone, as ever.

    Args:
        ranks: ``--ranks``.
        machines: ``--machines``, such as ``4`` or ``1:8``.
        join: ``--join``, such as ``head:29400``.
        restarts: ``--restarts``.

    Raises:
        InvalidInput: naming the option at fault.
    """
    if ranks is not None and not 1 <= ranks <= MOST_RANKS:
        raise InvalidInput(f"--ranks is {ranks}: expected 1 to {MOST_RANKS}")
    if restarts < 0:
        raise InvalidInput(f"--restarts is {restarts}: expected 0 or more")
    if machines is None and join is None:
        if ranks is None:
            if restarts:
                raise InvalidInput("--restarts is for --ranks or --machines")
            return None
        return Plan(ranks, restarts=restarts)
    if machines is None or join is None:
        raise InvalidInput("--machines and --join go together: --machines 1:8 --join HOST:PORT")
    found = re.fullmatch(r"(?:(\d{1,6}):)?(\d{1,6})", machines, re.ASCII)
    most = int(found[2]) if found else 0
    least = int(found[1]) if found and found[1] else most
    if not 1 <= least <= most <= MOST_RANKS:
        raise InvalidInput(f"--machines is {machines}: expected MIN:MAX, such as 1:8, or a number")
    place = re.fullmatch(r"([^\s:]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", join, re.ASCII)
    if place is None or not 1 <= int(place[2]) <= 65535:
        raise InvalidInput(f"--join is {join}: expected HOST:PORT, such as head:29400")
    return Plan(ranks or 1, least, most, join, restarts)


def is_rank() -> bool:
    """Whether this process was started as one of several ranks, by ``--ranks`` or ``torchrun``."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_launched() -> bool:
    """Whether this process is a rank that fastnst itself has started, by ``--ranks``."""
    return is_rank() and LAUNCHER in os.environ


def rank() -> int:
    """The number of this process among the ranks, from 0; 0 if it works alone.

    Raises:
        InvalidInput: if the environment has no number there.
    """
    return _number("RANK", 0) if is_rank() else 0


def writes() -> bool:
    """Whether this process shows progress and writes files: rank 0, or one that works alone."""
    return rank() == 0


def local_rank() -> int:
    """The number of this process among the ranks of its machine, from 0; 0 if it works alone."""
    return _number("LOCAL_RANK", 0) if is_rank() else 0


def local_ranks() -> int:
    """How many ranks share this machine, this one included."""
    return max(1, _number("LOCAL_WORLD_SIZE", 1)) if is_rank() else 1


def may_restart() -> bool:
    """Whether the launcher starts the ranks again after a failure."""
    return is_rank() and _number("TORCHELASTIC_MAX_RESTARTS", 0) > 0


def share_of_threads(threads: int, among: int) -> int:
    """The threads of one of several ranks of a machine: an even part, at least one."""
    return max(1, threads // among)


def still_speaking() -> bool:
    """Whether a thread of this process still waits for the other ranks' meeting point.

    When Python ends it unwinds such threads, which within torch's C++ aborts the process.
    """
    return any(thread.name.startswith(SPEAKING) for thread in threading.enumerate())


def end_with_launcher(say: Callable[[str], None]) -> None:
    """End this process soon after its launcher has died: nobody else would end it.

    Args:
        say: Prints a line.
    """
    # It may have died before this process comes here: then the parent is another already.
    parent = _number(LAUNCHER, os.getppid())
    if "TORCHELASTIC_RUN_ID" not in os.environ or parent <= 1:
        return

    def watch() -> None:
        wait = threading.Event()
        while os.getppid() == parent:
            wait.wait(PARENT_SECONDS)
        say(f"rank {os.environ.get('RANK')}: the launcher has died")
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="fastnst-launcher").start()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise InvalidInput(f"{name} is {text!r}: expected a whole number") from error
