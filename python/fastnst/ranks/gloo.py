"""Ranks that speak over the network by ``torch.distributed``'s gloo, each with a time limit.

Every communication ends within the limit, in an error if need be: a peer that was killed is seen
at once where there is a connection to it; one that hangs, or whose cable was pulled, when the time
is up. The error names the rank and the reason as far as they can be known (``watch.py``).
"""

from __future__ import annotations

import contextlib
import os
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore

from fastnst.errors import InvalidInput, RankLost
from fastnst.ranks.meeting import is_loopback, meet
from fastnst.ranks.protocol import Communication, Message, Neighbours, in_order, pack, unpack
from fastnst.ranks.watch import Watch

Started = list[tuple[int, dist.Work | None, Tensor]]  # messages under way: peer, handle, memory
FIRST_TAG = 3  # of the messages of ``all_to_all``; those before it are for other communications


class Gloo(Communication):
    """One of several ranks that meet at ``MASTER_ADDR:MASTER_PORT``.

    Args:
        rank: Which this is.
        ranks: How many there are, at least 2.
        local_ranks: How many of them are on this machine.
        limit_seconds: How long to wait for another, in every communication.

    Raises:
        InvalidInput: if the limit is not positive.
        RankLost: if not all come within the limit.
    """

    def __init__(self, rank: int, ranks: int, local_ranks: int, limit_seconds: float) -> None:
        if not limit_seconds > 0:
            raise InvalidInput(f"the time limit of ranks is {limit_seconds}: expected seconds > 0")
        self.rank, self.ranks, self.local_ranks = rank, ranks, local_ranks
        self.joined = True
        self.sent = self.calls = 0
        self.stops = self._asked = False
        self._limit = limit_seconds
        self._under_way: list[Started] = []  # communications whose messages may not have come
        self._failures: list[BaseException] = []  # what communications have ended with
        self._patience = timedelta(seconds=limit_seconds)
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        _stay_on_this_machine()
        try:
            store = meet(rank, ranks, self._patience)
            store.set_timeout(self._patience)
            group = PrefixStore("group", store)
            dist.init_process_group(
                "gloo", store=group, rank=rank, world_size=ranks, timeout=self._patience
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise RankLost(
                f"rank {rank} of {ranks} could not meet the others at {place} within "
                f"{limit_seconds:g} s: {_first_line(error)}"
            ) from error
        self._watch = Watch(PrefixStore("watch", store), rank, ranks, lambda: self.calls)

    def begin_exchange(self, above: Tensor, below: Tensor) -> Callable[[], Neighbours]:
        """Begin to give rows to both neighbours and to take theirs."""
        self.calls += 1
        found: list[Tensor | None] = [None, None]
        started = self._begin()
        for side, (peer, x) in enumerate(((self.rank - 1, above), (self.rank + 1, below))):
            if not 0 <= peer < self.ranks:
                continue
            rows, place = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
            with self._speaking(peer):
                # The tag says in which direction: two ranks may be neighbours in one only.
                started.append((peer, dist.isend(_bytes(rows), peer, tag=side), rows))
                started.append((peer, dist.irecv(_bytes(place), peer, tag=1 - side), place))
            found[side] = place
            self.sent += rows.numel() * rows.element_size()

        def arrival() -> Neighbours:
            self._finish(started)
            return found[0], found[1]

        return arrival

    def all_to_all(self, given: Sequence[Message], taken: Sequence[Message]) -> None:
        """Give tensors to any of the other ranks and take theirs."""
        self.calls += 1
        started = self._begin()
        for way, messages in ((dist.isend, given), (dist.irecv, taken)):
            found = [0] * self.ranks  # messages of each rank so far
            for peer, x in messages:
                flat = _bytes(x)
                if not flat.numel():
                    continue
                with self._speaking(peer):
                    started.append((peer, way(flat, peer, tag=FIRST_TAG + found[peer]), flat))
                found[peer] += 1
                self.sent += flat.numel() if way is dist.isend else 0
        self._finish(started)

    def reduce_exact(self, *tables: Tensor) -> None:
        """Add tables up over all ranks, in place and in one communication."""
        self.calls += 1
        packed = pack(tables, int(self._asked))
        with self._speaking():
            dist.all_reduce(packed)
        self.sent += 2 * (self.ranks - 1) * packed.numel() * packed.element_size() // self.ranks
        self.stops = unpack(packed, tables) > 0

    def reduce_in_order(self, parts: Tensor) -> Tensor:
        """Scalars of which each band has a part, added in the order of the bands."""
        self.reduce_exact(parts)
        return in_order(parts)

    def gather(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]] | None:
        """Collect tensors of all ranks on rank 0."""
        contents = [(name, tuple(x.shape), x.dtype) for name, x in tensors.items()]
        announced = self.gather_objects(contents)
        if announced is None:
            for x in tensors.values():
                flat = _bytes(x)
                self._transfer(dist.isend, flat, 0)
                self.sent += flat.numel()
            return None
        found = [dict(tensors)]
        for peer in range(1, self.ranks):
            found.append({})
            for name, shape, dtype in announced[peer]:
                found[-1][name] = place = torch.empty(shape, dtype=dtype, device="cpu")
                self._transfer(dist.irecv, _bytes(place), peer)
        return found

    def _transfer(self, way: Callable[..., dist.Work | None], x: Tensor, peer: int) -> None:
        """Send bytes ``(n,)`` to a rank, or receive them from it."""
        if x.numel():
            started = self._begin()
            with self._speaking(peer):
                started.append((peer, way(x, peer, tag=2), x))
            self._finish(started)

    def _begin(self) -> Started:
        started: Started = []
        self._under_way.append(started)
        return started

    def _finish(self, started: Started) -> None:
        """Wait until messages have arrived; what is sent has to live as long."""
        while started:
            peer, work, _ = started[0]
            with self._speaking(peer):
                assert work is not None  # None is for ranks outside the group
                work.wait(self._patience)
            del started[0]
        self._under_way = [others for others in self._under_way if others is not started]

    def collect(self, x: Tensor) -> list[Tensor]:
        """Collect a tensor of every rank on every rank."""
        self.calls += 1
        kinds: list[Any] = [None] * self.ranks
        found = []
        with self._speaking():
            dist.all_gather_object(kinds, (tuple(x.shape), x.dtype))
            for rank, (shape, dtype) in enumerate(kinds):
                own = rank == self.rank
                place = x.contiguous() if own else torch.empty(shape, dtype=dtype, device="cpu")
                if place.numel():
                    dist.broadcast(_bytes(place), rank)
                    self.sent += (self.ranks - 1) * _bytes(place).numel() if own else 0
                found.append(place)
        return found

    def gather_objects(self, x: Any) -> list[Any] | None:
        """Collect on rank 0 what each rank has: anything small that can be pickled."""
        self.calls += 1
        found: list[Any] | None = [None] * self.ranks if self.rank == 0 else None
        with self._speaking():
            dist.gather_object(x, found)
        return found

    def broadcast(self, x: Any) -> Any:
        """What rank 0 has given, on every rank."""
        self.calls += 1
        found = [x]
        with self._speaking():
            dist.broadcast_object_list(found)
        return found[0]

    def barrier(self) -> None:
        """Wait until all ranks have come here."""
        self.calls += 1
        with self._speaking():
            # An all-reduce of one number: gloo's own barrier has no time limit in some versions.
            dist.all_reduce(torch.zeros(1, dtype=torch.int64, device="cpu"))

    def ask_to_stop(self) -> None:
        """Ask all ranks to stop: ``stops`` is true everywhere after the next sum."""
        self._asked = True

    def fail(self, reason: str) -> None:
        """Tell the others why this rank ends, for their messages."""
        self._watch.leave_word(reason)

    def word_of(self, rank: int, seconds: float) -> str | None:
        """Why another rank ends, if it says so within so many seconds."""
        return self._watch.word_of(rank, seconds)

    def late(self) -> tuple[int, ...]:
        """The ranks that others have waited for a second or more; known to rank 0 alone."""
        return self._watch.late

    def close(self) -> None:
        """End all connections, then wait for the others to have looked why, where this rank fails.

        In this order: those who wait for this rank see that it ends by the connection's end. A
        connection ends with the last handle of its messages; those of what failed are still held by
        the frames of the error's traceback.
        """
        while self._under_way:
            self._under_way.pop().clear()
        while self._failures:
            traceback.clear_frames(self._failures.pop().__traceback__)
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()
        self._watch.close()

    @contextlib.contextmanager
    def _speaking(self, peer: int | None = None) -> Iterator[None]:
        """Turn what torch raises where another rank is gone into one line that names it."""
        try:
            yield
        except BaseException as error:
            self._failures.append(error)
            if not isinstance(error, RuntimeError):
                raise
            who = self._watch.explain(peer, _first_line(error), self._limit)
            raise RankLost(f"rank {self.rank} of {self.ranks} cannot go on: {who}") from error


def _bytes(x: Tensor) -> Tensor:
    """A tensor's bytes ``(n,)``, in its own memory where it is contiguous."""
    return x.detach().contiguous().view(-1).view(torch.uint8)


def _first_line(error: BaseException) -> str:
    """The first sentence of an error of torch, without the place in its sources."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if text.startswith("["):  # [/…/gloo/transport/tcp/pair.cc:547] Connection closed by peer …
        text = text.partition("] ")[2] or text
    return text.partition(". ")[0].rstrip(".")


def _stay_on_this_machine() -> None:
    """Where the ranks meet on the loopback address, have gloo listen there alone too."""
    if "GLOO_SOCKET_IFNAME" in os.environ or not is_loopback(os.environ["MASTER_ADDR"]):
        return
    names: Callable[[], list[tuple[int, str]]] | None = getattr(socket, "if_nameindex", None)
    for _, name in names() if names is not None else ():
        if name in ("lo", "lo0"):
            os.environ["GLOO_SOCKET_IFNAME"] = name
