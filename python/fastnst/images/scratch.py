"""Where the large pictures of a run lie: in a scratch file that is made when it is first needed."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from fastnst.strips.scratch import scratch_folder
from fastnst.strips.storage import ScratchStore, Store


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
            self._store = ScratchStore(scratch_folder(self._folder))
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
