"""How ranks speak: the contract, and its twin for one process.

What goes from one rank to another are rows at the borders, sums in fixed point, and scalars by
band; so nothing but the rows grows with the picture. A solver that transforms the whole picture
sends all of its spectrum beside that. All that is added is added exactly, or in the order of the
bands: results do not depend on the number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

Message = tuple[int, Tensor]  # a rank, and what it gets or gives
Neighbours = tuple[Tensor | None, Tensor | None]  # what the ranks before and after have sent


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

    def exchange(self, above: Tensor, below: Tensor) -> Neighbours:
        """Give rows to both neighbours and take theirs.

        Args:
            above: What the rank before this one gets; it has the shape of what comes from there.
            below: What the rank after this one gets, of the same shape.

        Returns:
            What the rank before and the rank after have sent; None where there is no such rank.

        Raises:
            RankLost: if a neighbour does not answer within the limit; so do all that follow.
        """
        return self.begin_exchange(above, below)()

    def begin_exchange(self, above: Tensor, below: Tensor) -> Callable[[], Neighbours]:
        """The same, in two steps: other work may be done in between.

        Args:
            above: As for ``exchange``. It must not change before the second step is done.
            below: Likewise.

        Returns:
            The second step: it waits for the neighbours, and returns what ``exchange`` does. Of
            several exchanges that have begun the first is to be ended first, and all of them before
            any other communication begins.

        Raises:
            RankLost: as for ``exchange``, in either step.
        """
        ...

    def all_to_all(self, given: Sequence[Message], taken: Sequence[Message]) -> None:
        """Give tensors to any of the other ranks and take theirs.

        Args:
            given: What other ranks get, each with its rank.
            taken: Where what comes from them is put: contiguous tensors of the same sizes. Of
                several that come from one rank the first that it gives comes first.
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

    def word_of(self, rank: int, seconds: float) -> str | None:
        """Why another rank ends, if it says so within so many seconds."""
        ...

    def late(self) -> tuple[int, ...]:
        """The ranks that others have waited for a second or more; known to rank 0 alone."""
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

    def begin_exchange(
        self,
        above: Tensor,  # noqa: ARG002
        below: Tensor,  # noqa: ARG002
    ) -> Callable[[], Neighbours]:
        """There are no neighbours."""
        return lambda: (None, None)

    def all_to_all(self, given: Sequence[Message], taken: Sequence[Message]) -> None:
        """There are no others."""

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

    def word_of(self, rank: int, seconds: float) -> None:
        """There is nobody else."""

    def late(self) -> tuple[int, ...]:
        """Nobody waits."""
        return ()

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
