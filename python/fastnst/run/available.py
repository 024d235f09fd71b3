"""How much memory there is for a run."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

import torch


def available(device: torch.device) -> int | None:
    """Free bytes on the device, or None if the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + _cached(device)
    free = [_system_memory(), *_group_memory(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))]
    return min((number for number in free if number is not None), default=None)


def give_back() -> None:
    """Give memory back to the system that is freed, which glibc keeps up to 100 MB of."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # other C libraries
        ctypes.CDLL(None).malloc_trim(0)


def _cached(device: torch.device) -> int:
    """Bytes of a GPU that torch holds and no tensor uses: a run before this one has left them."""
    return torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _system_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return None


def _group_memory(mount: Path, membership: Path) -> list[int]:
    """Bytes that the limits of a container (cgroup v2) leave: its group's and those around it."""
    try:
        path = membership.read_text().split("0::/", 1)[1].splitlines()[0]
    except (OSError, IndexError):
        return []
    free = []
    for folder in (group := mount / path, *group.parents):
        try:
            limit = (folder / "memory.max").read_text().strip()
            usage = int((folder / "memory.current").read_text())
            statistics = dict(x.split() for x in (folder / "memory.stat").read_text().splitlines())
            cache = int(statistics["inactive_file"])  # file cache that is given up when needed
        except (OSError, ValueError, KeyError):
            continue
        if limit != "max":
            free.append(max(0, int(limit) - usage + cache))
    return free
