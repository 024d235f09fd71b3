"""What ranks do in tests: functions that another process can import."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import torch

from fastnst.errors import OutputFailed
from fastnst.ranks import communication


def nothing() -> None:
    """Come, and go."""


def places() -> tuple[int, int, bool, int]:
    """Which rank of how many."""
    mine = communication.current()
    return mine.rank, mine.ranks, mine.joined, mine.local_ranks


def neighbours() -> tuple[Any, Any, int]:
    """What comes from above and from below, and the bytes that went there."""
    mine = communication.current()
    rows = torch.arange(12.0).view(1, 3, 2, 2).permute(0, 1, 3, 2)  # not contiguous
    above, below = mine.exchange(rows + 100 * mine.rank, rows + 100 * mine.rank + 50)
    return above, below, mine.sent


def sums(rounds: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int, int]:
    """Sums in fixed point and in order, with the bytes and the communications."""
    mine = communication.current()
    for _ in range(rounds):
        units = torch.tensor([2**61 - 1, -5, mine.rank]) // mine.ranks
        parts = torch.zeros(2 * mine.ranks, 2, dtype=torch.float64)
        # Added in another order these give another sum: 1e16 + 1 − 1e16 is 0, not 1.
        values = torch.tensor([[1e16, 0.1], [1.0, 0.2], [-1e16, -0.0]], dtype=torch.float64)
        for band in (2 * mine.rank, 2 * mine.rank + 1):
            parts[band] = values[band % 3]
        mine.reduce_exact(units, parts)
    again = torch.zeros_like(parts)
    again[2 * mine.rank : 2 * mine.rank + 2] = parts[2 * mine.rank : 2 * mine.rank + 2]
    return units, parts, mine.reduce_in_order(again), mine.sent, mine.calls


def collections() -> tuple[Any, ...]:
    """Tensors of several shapes and objects on rank 0, and an object of rank 0."""
    mine = communication.current()
    mine.barrier()
    tensors = mine.gather(torch.arange(3 * mine.rank, dtype=torch.int16))
    objects = mine.gather_objects({"rank": mine.rank})
    return tensors, objects, mine.broadcast(f"of {mine.rank}")


def stopping() -> list[bool]:
    """Whether ranks stop, sum by sum; rank 1 asks for it between the second and the third."""
    mine = communication.current()
    found = []
    for step in range(4):
        if step == 2 and mine.rank == 1:
            mine.ask_to_stop()
        mine.reduce_in_order(torch.zeros(1, 1, dtype=torch.float64))
        found.append(mine.stops)
    return found


def lose(victim: int, how: str, at: str) -> None:
    """Speak on and on; one rank ends in the middle, or stops to answer."""
    mine = communication.current()
    rows = torch.zeros(1, 3, 4, 5)
    for step in range(1000):
        if step == 3 and mine.rank == victim:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            if how == "busy":
                time.sleep(30)
            raise OutputFailed("the disk is full")
        if at == "exchange":
            mine.exchange(rows, rows)
        else:
            mine.reduce_in_order(torch.zeros(4, 2, dtype=torch.float64))
