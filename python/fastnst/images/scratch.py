"""Where the large pictures of a run lie: in a scratch file that is made when it is first needed."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.strips.storage import ScratchStore, Store


def check_space(folder: str | os.PathLike[str] | None, needed: int) -> None:
    """Make sure, before the work starts, that there is room for scratch files.

    Args:
        folder: Where; None: the system's folder for temporary files.
        needed: Bytes; with 0 the folder is not looked at.

    Raises:
        InvalidInput: if the folder is missing or too full.
    """
    if not needed:
        return
    place = Path(folder or tempfile.gettempdir())
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise InvalidInput(
            f"scratch folder {place} cannot be used: {error.strerror or error}"
        ) from error
    if free < needed:
        raise InvalidInput(
            f"scratch folder {place}: {free / 1e9:.1f} GB are free, the pictures of the run need "
            f"{needed / 1e9:.1f} GB; name another with --scratch"
        )


class PictureStore(Store):
    """A ``ScratchStore`` that is made when the first picture is stored in it.

    It closes itself when it is dropped.

    Args:
        folder: Where; None: the system's folder for temporary files (``TMPDIR``).
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self._folder = folder
        self._store: ScratchStore | None = None

    @property
    def size(self) -> int:
        """Bytes of the scratch file so far."""
        return 0 if self._store is None else self._store.size

    def zeros(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """A contiguous tensor of zeros, on the CPU, backed by the scratch file.

        Raises:
            InvalidInput: if the folder is missing or not writable.
            OutputFailed: if the disk is full.
        """
        if self._store is None:
            self._store = ScratchStore(self._folder or tempfile.gettempdir())
            weakref.finalize(self, self._store.close)
        return self._store.zeros(shape, dtype)

    def release(self, tensor: Tensor) -> None:
        """Take a tensor's pages out of the process's memory; the file keeps their values."""
        if self._store is not None:
            self._store.release(tensor)

    def close(self) -> None:
        """Close the file. Its space is free once its last tensor is dropped."""
        if self._store is not None:
            self._store.close()
