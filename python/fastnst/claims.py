"""Claims on outputs: of several processes that would make the same file, one does.

A claim is a lock on a hidden file beside the output, ``.NAME.claim``, that the system gives up for
a process that dies: what a killed process was making is free for the next one. Processes of several
machines see each other's claims where the file system that they share carries locks (as NFS does).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from fastnst import files

_held: set[Path] = set()  # the files of this process's claims


def abandon() -> None:
    """Remove the files of all claims: for a process that ends here and now."""
    for path in list(_held):
        with contextlib.suppress(OSError):
            path.unlink()


def claim_path(output: Path) -> Path:
    """The file whose lock is the claim on an output."""
    place = output if output.name else output.absolute()  # "." has no name
    return place.parent / f".{files.short(place.name or 'root')}.claim"


@contextlib.contextmanager
def claim(output: Path, seconds: float = 0) -> Iterator[bool]:
    """Claim an output while the context lasts.

    Args:
        output: The file that is to be made.
        seconds: How long to wait for a process that holds the claim; negative: as long as it takes.

    Yields:
        Whether no other process holds the claim. It is True too where the folder takes no lock:
        there two processes may make the same file, one after the other put in place whole.
    """
    path = claim_path(output)
    lock = FileLock(path)
    if not os.path.isdir(path.parent):  # noqa: PTH112 - False for what no system takes
        yield True  # the lock would make the folder
        return
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError, ValueError):  # no locks; a NUL in the name
        yield True
        return
    _held.add(path)
    try:
        yield True
    finally:
        _held.discard(path)
        with contextlib.suppress(OSError):  # while it is held: a later file is another's
            path.unlink()
        lock.release()
