"""A scratch folder: whether it can be used, and a file without a name in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from fastnst.errors import InvalidInput


def check_scratch(folder: str | os.PathLike[str] | None, needed: int = 0) -> None:
    """Make sure, before the work starts, that a scratch folder can be used.

    Args:
        folder: Where; None: the system's folder for temporary files, which is not looked at unless
            something is needed.
        needed: Bytes that will be asked for.

    Raises:
        InvalidInput: if it is missing, not writable or too full.
    """
    if folder is not None or needed:
        open_scratch(scratch_folder(folder), needed).close()


def scratch_folder(folder: str | os.PathLike[str] | None) -> Path:
    """The folder for scratch files; for None the system's for temporary files (``TMPDIR``).

    Raises:
        InvalidInput: if the system has none that can be written to.
    """
    try:
        return Path(tempfile.gettempdir() if folder is None else folder)
    except OSError as error:
        raise InvalidInput(
            "there is no folder for temporary files: name one with --scratch"
        ) from error


def open_scratch(folder: str | os.PathLike[str], needed: int = 0) -> BinaryIO:
    """A new file in a scratch folder, which is gone when it is closed, also by a kill.

    It has no name where the system can do that (Linux), or loses it at once; on Windows the system
    removes it when it is closed.

    Args:
        folder: Where.
        needed: Bytes that will be asked for.

    Raises:
        InvalidInput: if the folder is missing, not writable or too full.
    """
    place = Path(folder)
    try:
        if not place.is_dir():
            raise InvalidInput(f"scratch folder {place} does not exist or is no folder")
        free = shutil.disk_usage(place).free
        file = cast(BinaryIO, tempfile.TemporaryFile(dir=place, prefix=".fastnst-"))  # noqa: SIM115
    except InvalidInput:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise InvalidInput(f"scratch folder {place} cannot be written to: {reason}") from error
    if free < needed:
        file.close()
        raise InvalidInput(
            f"scratch folder {place}: {free / 1e9:.1f} GB are free, the run needs "
            f"{needed / 1e9:.1f} GB; name another with --scratch"
        )
    return file
