"""How the processes of one run find each other: each is a *rank*, counted from 0.

A rank owns consecutive bands of a picture's rows. ``current()`` is how this process speaks to the
others. Without further ado that is ``Alone``. A process that was started as one of several, as
``torchrun`` does it, calls ``join`` before its work and ``leave`` after it.
"""

from __future__ import annotations

import os

from fastnst.errors import InvalidInput
from fastnst.ranks.protocol import Alone, Communication

LIMIT_SECONDS = 600.0  # that a rank waits for another, unless told otherwise

_current: Communication = Alone()


def current() -> Communication:
    """How this process speaks to the others of its run."""
    return _current


def use(communication: Communication) -> None:
    """Make this the process's communication: for ``join`` and for tests."""
    global _current  # a process has one
    _current = communication


def join(limit_seconds: float = LIMIT_SECONDS) -> Communication:
    """Become one of several ranks, if the environment says that this process is one.

    ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and ``MASTER_PORT`` are read, as ``torchrun`` sets
    them, and ``LOCAL_WORLD_SIZE``. Where they are not set nothing happens. A process that has
    joined already stays as it is.

    Args:
        limit_seconds: How long to wait for another rank, in every communication.

    Returns:
        The communication, which is ``current()`` from now on.

    Raises:
        InvalidInput: for an environment that makes no sense.
        RankLost: if not all ranks come within the limit.
    """
    if _current.joined or "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        return _current
    rank, ranks = _number("RANK", 0), _number("WORLD_SIZE", 1)
    if rank >= ranks:
        raise InvalidInput(f"RANK is {rank}: expected less than WORLD_SIZE, which is {ranks}")
    if ranks == 1:
        use(Alone(joined=True))
        return _current
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise InvalidInput(f"{name} is not set: start ranks with --ranks or torchrun")
    _number("MASTER_PORT", 0)
    from fastnst.ranks.gloo import Gloo  # torch.distributed takes a while to import

    use(Gloo(rank, ranks, _number("LOCAL_WORLD_SIZE", 1, default=1), limit_seconds))
    return _current


def leave(reason: str | None = None) -> None:
    """End this process's part. It speaks to nobody from now on.

    Args:
        reason: Why it ends early, in one line, for the messages of the others; None: it is done.
    """
    if reason is not None:
        _current.fail(reason)
    _current.close()
    use(Alone())


def _number(name: str, least: int, default: int | None = None) -> int:
    text = os.environ.get(name, "" if default is None else str(default))
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise InvalidInput(f"{name} is {text!r}: expected a whole number of {least} or more")
    return number
