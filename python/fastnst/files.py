"""Files that are whole or not there: written beside the target, then renamed into its place.

A rename replaces the target in one go, so a reader, a kill or a power cut finds the old file or the
new one, never a part. What a killed process leaves is a hidden draft, ``.NAME.PID.part``; a later
write of the same target sweeps it away.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from fastnst.errors import InvalidInput, OutputFailed

ABANDONED = 60.0  # seconds; a draft that is being written to is younger


def check_writable(target: Path, label: str, needed: int = 0) -> None:
    """Make sure that a file can be written in its folder, or replaced there.

    Args:
        target: The file.
        label: What to call it in messages.
        needed: Bytes that it may take at most.

    Raises:
        InvalidInput: if it is a folder, or its folder is missing, not writable or too full.
    """
    if target.is_dir():
        raise InvalidInput(f"{label} {target} is a folder; name a file in it")
    if not target.parent.is_dir():
        raise InvalidInput(f"{label} {target}: the folder {target.parent} does not exist")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise InvalidInput(f"{label} {target}: the folder {target.parent} is not writable")
    if target.exists() and not os.access(target, os.W_OK):
        raise InvalidInput(f"{label} {target} exists and is write-protected")
    try:
        with beside(target):
            pass  # a read-only file system says so only when written to
    except OSError as error:
        raise InvalidInput(f"{label} {target} cannot be written: {error.strerror}") from error
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        raise InvalidInput(
            f"{label} {target}: {free / 1e6:.1f} MB are free in {target.parent}, "
            f"the file may need {needed / 1e6:.1f} MB"
        )


@contextlib.contextmanager
def beside(target: Path) -> Iterator[Path]:
    """A new, empty file in the target's folder, gone at the end unless it was renamed.

    Raises:
        OSError: if the folder cannot be written to.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        draft.touch()
        yield draft
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def folder_beside(target: Path) -> Iterator[Path]:
    """The same for a library that makes drafts of its own: a file to be, in a new hidden folder."""
    folder = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        folder.mkdir()
        yield folder / target.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(draft: Path, target: Path) -> None:
    """Rename a finished draft to its target, once its bytes are on the disk."""
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
    draft.replace(target)
    sweep(target)


def write(target: Path, data: bytes) -> None:
    """Write a whole file.

    Raises:
        OutputFailed: if it cannot be written; a file that was there before is left as it was.
    """
    try:
        with beside(target) as draft:
            draft.write_bytes(data)
            put_in_place(draft, target)
    except OSError as error:
        raise OutputFailed(f"{target} could not be written: {error.strerror}") from error


def sweep(target: Path) -> None:
    """Remove the drafts of a target that no process has written to for ``ABANDONED`` seconds."""
    name = target.name.translate({ord(c): f"[{c}]" for c in "*?["})
    with contextlib.suppress(OSError):  # it is only tidying: another process may be at it too
        for draft in target.parent.glob(f".{name}.*.part"):
            touched = max(path.stat().st_mtime for path in (draft, *draft.glob("*")))
            if time.time() - touched <= ABANDONED:
                continue
            if draft.is_dir():
                shutil.rmtree(draft)
            else:
                draft.unlink()
