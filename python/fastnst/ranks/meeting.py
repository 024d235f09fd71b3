"""Where processes meet: a store of torch that listens on no more addresses than it must."""

from __future__ import annotations

import ipaddress
import os
import socket
from datetime import timedelta

from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous


def is_loopback(address: str) -> bool:
    """Whether an address reaches this machine alone."""
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:  # a name
        return False


def loopback_store(address: str, port: int, patience: timedelta) -> TCPStore:
    """A store that listens on a loopback address. One that torch opens listens on all there are.

    Args:
        address: A loopback address.
        port: The port; 0: any that is free.
        patience: How long whoever asks it waits for an answer.

    Raises:
        OSError: if the port is taken.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as listening:
        port = listening.getsockname()[1]
        return TCPStore(
            address,
            port,
            is_master=True,
            timeout=patience,
            wait_for_workers=False,
            master_listen_fd=listening.detach(),
        )


def meet(rank: int, ranks: int, patience: timedelta) -> Store:
    """The store at ``MASTER_ADDR:MASTER_PORT``, which rank 0 opens unless its launcher has.

    Args:
        rank: Which this is.
        ranks: How many there are.
        patience: How long to wait for the others.

    Raises:
        RuntimeError: if it is not there in time; OSError and ValueError likewise.
    """
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    launcher_has_one = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if rank == 0 and is_loopback(address) and not launcher_has_one:
        return loopback_store(address, port, patience)
    found: Store
    found, _, _ = next(rendezvous("env://", rank, ranks, timeout=patience))
    return found
