"""Several processes that speak over the loopback address, for tests of one picture on several."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from fastnst.errors import FastNSTError
from fastnst.ranks import communication

PATIENCE = 60.0  # seconds that a test waits for its processes
# Forked from a process that has imported torch and computed nothing: 50 ms each instead of 3 s.
METHOD = "spawn" if sys.platform in ("win32", "darwin") else "forkserver"


@dataclass
class Rank:
    """A process of a test.

    Attributes:
        process: The process.
        results: Where its result comes from.
    """

    process: Any
    results: Connection

    def result(self) -> Any:
        """What its work has returned, or an error that fastnst raises on purpose.

        Raises:
            AssertionError: if nothing comes, or another error.
        """
        assert self.results.poll(PATIENCE), "a rank does not end"
        try:
            found, error = pickle.loads(self.results.recv_bytes())
        except EOFError:  # it was killed
            found, error = None, "EOF"
        self.process.join(PATIENCE)
        assert not self.process.is_alive()
        assert error is None, error
        return found


def start(ranks: int, work: Callable[..., Any], *given: Any, limit: float = 30.0) -> list[Rank]:
    """Start ranks that do the same work.

    Args:
        ranks: How many.
        work: A function of a module; it finds its communication by ``current()``.
        given: Its arguments.
        limit: The time limit of their communication in seconds.
    """
    context = multiprocessing.get_context(METHOD)
    if METHOD == "forkserver":
        context.set_forkserver_preload(["helpers.ranks_work", "fastnst.ranks.gloo"])
        _find_modules_there()
    port = free_port()
    packed = pickle.dumps((work, given))  # tensors by value, not as memory that is shared
    found = []
    for rank in range(ranks):
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_serve, args=(theirs, rank, ranks, port, limit, packed), daemon=True
        )
        process.start()
        theirs.close()
        found.append(Rank(process, mine))
    return found


def on_ranks(ranks: int, work: Callable[..., Any], *given: Any, limit: float = 30.0) -> list[Any]:
    """What some work returns on each of several ranks; arguments as for ``start``."""
    started = start(ranks, work, *given, limit=limit)
    try:
        return [rank.result() for rank in started]
    finally:
        for rank in started:
            if rank.process.is_alive():
                rank.process.kill()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _find_modules_there() -> None:
    """Start the process that the others are forked from where it finds what it is to import."""
    from multiprocessing import forkserver  # not on Windows

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _serve(
    results: Connection,
    rank: int,
    ranks: int,
    port: int,
    limit: float,
    packed: bytes,
) -> None:
    environment = {"RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in environment.items()}
    torch.set_num_threads(1)
    work, given = pickle.loads(packed)
    try:
        communication.join(limit)
        found = work(*given)
    except FastNSTError as error:
        communication.leave(str(error))
        found = error
    except BaseException as error:  # noqa: BLE001 - told to the test
        results.send_bytes(pickle.dumps((None, f"rank {rank}: {type(error).__name__}: {error}")))
        return
    communication.leave()
    results.send_bytes(pickle.dumps((found, None)))
