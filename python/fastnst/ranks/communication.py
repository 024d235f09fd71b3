"""How the processes of one run speak to each other: each is a *rank*, counted from 0.

A rank owns consecutive bands of a picture's rows. What goes from one to another are rows at the
borders, sums in fixed point, and scalars by band; so nothing but the rows grows with the picture.
All that is added is added exactly, or in the order of the bands: results do not depend on the
number of ranks.

``current()`` is how this process speaks. Without further ado that is ``Alone``. A process that was
started as one of several, as ``torchrun`` does it, calls ``join`` before its work and ``leave``
after it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from fastnst.errors import InvalidInput

LIMIT_SECONDS = 600.0  # that a rank waits for another, unless told otherwise


class Communication(Protocol):
    """How one of several processes speaks to the others. All of them call the same, in one order.

    Attributes:
        rank: Which process this is, from 0.
        ranks: How many there are.
        joined: Whether the process was started as one of several, or of one: pictures are then cut
            into bands by the fixed rule, so that any number of ranks computes the same.
        local_ranks: How many of them share this machine, its memory and its cores.
        sent: Bytes that this rank has sent. An all-reduce of n bytes counts 2 n (P − 1) / P, which
            is what each rank of a ring of P sends.
        calls: How many communications there were.
        stops: Whether any rank had asked to stop when all of them spoke last.
    """

    rank: int
    ranks: int
    joined: bool
    local_ranks: int
    sent: int
    calls: int
    stops: bool

    def exchange(self, above: Tensor, below: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Give rows to both neighbours and take theirs.

        Args:
            above: What the rank before this one gets; it has the shape of what comes from there.
            below: What the rank after this one gets, of the same shape.

        Returns:
            What the rank before and the rank after have sent; None where there is no such rank.

        Raises:
            RankLost: if a neighbour does not answer within the limit; so do all that follow.
        """
        ...

    def reduce_exact(self, *tables: Tensor) -> None:
        """Add tables up over all ranks, in place and in one communication.

        Args:
            tables: int64; or float64 of which each entry is zero with all ranks but one. All of
                them on the CPU and contiguous, with the same shapes everywhere.
        """
        ...

    def reduce_in_order(self, parts: Tensor) -> Tensor:
        """Scalars of which each band has a part, added in the order of the bands.

        Args:
            parts: ``(bands, terms)`` float64 over the bands of all ranks, with zeros for those of
                others. It is filled up in place.

        Returns:
            The scalars, ``(terms,)`` float64.
        """
        ...

    def add_up(self, tables: Sequence[Tensor], parts: Tensor) -> Tensor:
        """Both in one communication: ``reduce_exact`` of tables, ``reduce_in_order`` of parts."""
        self.reduce_exact(*tables, parts)
        return in_order(parts)

    def gather(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]] | None:
        """Collect tensors of all ranks on rank 0.

        Args:
            tensors: On the CPU; with each rank others, of any number, names, shapes and dtypes.

        Returns:
            On rank 0 those of each rank, elsewhere None.
        """
        ...

    def collect(self, x: Tensor) -> list[Tensor]:
        """A tensor of each rank, of any shape and dtype, on every rank."""
        ...

    def gather_objects(self, x: Any) -> list[Any] | None:
        """Collect on rank 0 what each rank has: anything small that can be pickled."""
        ...

    def broadcast(self, x: Any) -> Any:
        """What rank 0 has given, on every rank: anything small that can be pickled."""
        ...

    def barrier(self) -> None:
        """Wait until all ranks have come here."""
        ...

    def ask_to_stop(self) -> None:
        """Ask all ranks to stop: ``stops`` is true everywhere after the next sum."""
        ...

    def fail(self, reason: str) -> None:
        """Tell the others why this rank ends, for their messages."""
        ...

    def close(self) -> None:
        """End all connections."""
        ...


class Alone(Communication):
    """The only rank there is.

    Args:
        joined: As for ``Communication``.
    """

    def __init__(self, joined: bool = False) -> None:
        self.rank, self.ranks, self.local_ranks = 0, 1, 1
        self.joined = joined
        self.sent = self.calls = 0
        self.stops = False

    def exchange(self, above: Tensor, below: Tensor) -> tuple[None, None]:  # noqa: ARG002
        """There are no neighbours."""
        return None, None

    def reduce_exact(self, *tables: Tensor) -> None:
        """They are the sums already."""

    def reduce_in_order(self, parts: Tensor) -> Tensor:
        """The sums of all bands, one after the other."""
        return in_order(parts)

    def gather(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """The tensors themselves."""
        return [dict(tensors)]

    def collect(self, x: Tensor) -> list[Tensor]:
        """The tensor itself."""
        return [x]

    def gather_objects(self, x: Any) -> list[Any]:
        """The object itself."""
        return [x]

    def broadcast(self, x: Any) -> Any:
        """The object itself."""
        return x

    def barrier(self) -> None:
        """Nobody is waited for."""

    def ask_to_stop(self) -> None:
        """Nobody else has to know."""
        self.stops = True

    def fail(self, reason: str) -> None:
        """Nobody else has to know."""

    def close(self) -> None:
        """There are no connections."""


def in_order(parts: Tensor) -> Tensor:
    """The sums of the rows of ``(bands, terms)``, one row after the other: ``(terms,)``."""
    total = torch.zeros_like(parts[0])
    for row in parts:  # sum(0) is free to choose its order
        total += row
    return total


def pack(tables: Sequence[Tensor], last: int) -> Tensor:
    """Tables as one int64 tensor ``(n + 1,)``, and a number after them.

    A float64 is taken by its bits: added to zeros these stay what they are.
    """
    flat = [table.view(torch.int64).reshape(-1) for table in tables]
    return torch.cat([*flat, torch.tensor([last], dtype=torch.int64, device="cpu")])


def unpack(packed: Tensor, tables: Sequence[Tensor]) -> int:
    """Set tables to what ``pack`` made of tables of these shapes; returns the number after them."""
    at = 0
    for table in tables:
        flat = table.view(torch.int64).view(-1)
        flat.copy_(packed[at : at + flat.numel()])
        at += flat.numel()
    return int(packed[-1])


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
