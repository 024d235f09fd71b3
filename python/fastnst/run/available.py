"""How much memory there is for a run."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

import torch

from fastnst.errors import BackendUnavailable

LARGE_BLOCK = 1 << 20  # bytes
# Main memory that a process has before a run begins: Python, PyTorch and this package. PyTorch's
# builds for GPUs take more, also on a CPU.
LIBRARIES = 250_000_000 if torch.version.cuda is torch.version.hip is None else 550_000_000
_MMAP_THRESHOLD = -3  # glibc's name of the limit from which a block is mapped on its own


def available(device: torch.device) -> int | None:
    """Free bytes on the device, or None if the system does not say.

    Raises:
        BackendUnavailable: if a GPU refuses: others may have all of it.
    """
    if device.type == "cuda":
        try:
            return int(torch.cuda.mem_get_info(device)[0]) + _cached(device)
        except RuntimeError as error:  # the first that a process does there: nothing may be free
            reason = str(error).partition("\n")[0]
            raise BackendUnavailable(f"device {device} cannot be used: {reason}") from error
    free = [_system_memory(), *_group_memory(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))]
    return min((number for number in free if number is not None), default=None)


def left_of(limit: int, device: torch.device) -> int:
    """Bytes that a run may take where its process may have so many; a GPU has no libraries."""
    return limit if device.type != "cpu" else max(0, limit - LIBRARIES)


def give_back() -> None:
    """Give memory back to the system that is freed, which glibc keeps up to 100 MB of."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # other C libraries
        ctypes.CDLL(None).malloc_trim(0)


def return_large_blocks() -> None:
    """Have blocks of a megabyte and more given back as soon as they are freed, from now on.

    Without this glibc keeps freed blocks of up to 32 MB for the next that fit, and a run in strips,
    whose pieces ask for blocks of many sizes, takes more than was said: 6 % with nine pieces of a
    picture of 4 megapixels, a quarter with 54. It costs 5 % of the time, a quarter where the
    network ends at relu2_2. With 16 MB neither changed much. What the user has said in
    ``MALLOC_MMAP_THRESHOLD_`` or ``GLIBC_TUNABLES`` stands. Other C libraries are left alone.
    """
    if {"MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"} & os.environ.keys():
        return
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, LARGE_BLOCK)


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
