"""Tensors by band, in plain memory or in one scratch file that is mapped into memory.

A scratch file has no name: it is removed from its folder as soon as it is open (on Windows the
system removes it when it is closed), so it is gone whenever the process is, also after a kill. Its
blocks are reserved before they are mapped, so a disk that is full says so when a tensor is made and
not, by a fatal signal, when it is written to.
"""

from __future__ import annotations

import mmap
import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fastnst.errors import OutputFailed
from fastnst.strips.geometry import Span, parts
from fastnst.strips.scratch import open_scratch

if TYPE_CHECKING:
    from typing_extensions import Self

_BLOCK = 1 << 24  # bytes written at a time where a system cannot reserve space


class Store(ABC):
    """Where large tensors lie."""

    @abstractmethod
    def zeros(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """A contiguous tensor of zeros, on the CPU.

        Raises:
            OutputFailed: if there is no space.
        """

    @abstractmethod
    def release(self, tensor: Tensor) -> None:
        """Say that a tensor of this store, or a view of one, is not needed for now.

        Its values stay as they are; physical memory that can be had back is given back.
        """

    @abstractmethod
    def close(self) -> None:
        """Give everything back. The store's tensors must not be used any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class MemoryStore(Store):
    """Plain memory: a tensor's space is had back when the tensor is dropped."""

    def zeros(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """A contiguous tensor of zeros, on the CPU."""
        return torch.zeros(tuple(shape), dtype=dtype, device="cpu")

    def release(self, tensor: Tensor) -> None:
        """Nothing: the values have no other place."""

    def close(self) -> None:
        """Nothing: the tensors are their own owners."""


class ScratchStore(Store):
    """One file without a name in a folder; tensors are ranges of it, mapped into memory.

    Args:
        folder: Where. A folder on a disk: one in memory (tmpfs) saves none.
        needed: Bytes that the run will ask for, checked against what is free.

    Raises:
        InvalidInput: if the folder is missing, not writable or too full.
    """

    def __init__(self, folder: str | os.PathLike[str], needed: int = 0) -> None:
        self.folder = Path(folder)
        self._file = open_scratch(folder, needed)
        self.size = 0
        self._bases: list[int] = []  # addresses of the mappings, ascending
        self._maps: list[mmap.mmap] = []  # in the same order

    def zeros(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """A contiguous tensor of zeros, on the CPU, backed by the file.

        Raises:
            OutputFailed: if the disk is full.
        """
        tensor = torch.empty(tuple(shape), dtype=dtype, device="meta")
        length = tensor.numel() * tensor.element_size()
        if not length:
            return torch.zeros(tuple(shape), dtype=dtype, device="cpu")
        at = -(-self.size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        try:
            _reserve(self._file.fileno(), at, length)
            mapped = mmap.mmap(self._file.fileno(), length, offset=at)
        except OSError as error:
            raise OutputFailed(
                f"scratch folder {self.folder}: no space for {length / 1e9:.2f} GB "
                f"({error.strerror})"
            ) from error
        self.size = at + length
        values = torch.frombuffer(mapped, dtype=torch.uint8).view(dtype).view(tuple(shape))
        base = values.data_ptr()
        place = bisect_right(self._bases, base)
        self._bases.insert(place, base)
        self._maps.insert(place, mapped)
        return values

    def release(self, tensor: Tensor) -> None:
        """Take a tensor's pages out of the process's memory; the file keeps their values.

        Where the system has no such call, nothing happens.

        Raises:
            ValueError: for a tensor that is not of this store.
        """
        if not tensor.numel():
            return
        place = bisect_right(self._bases, tensor.data_ptr()) - 1
        mapped = self._maps[place] if place >= 0 else None
        first = tensor.data_ptr() - self._bases[place]
        last = first + tensor.element_size() * (
            1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
        )
        if mapped is None or last > len(mapped):
            message = "a tensor that is not in this scratch file"
            raise ValueError(message)
        if hasattr(mmap, "MADV_DONTNEED"):
            page = first // mmap.PAGESIZE * mmap.PAGESIZE
            mapped.madvise(mmap.MADV_DONTNEED, page, last - page)

    def close(self) -> None:
        """Close the file. Its space is free once its last tensor is dropped."""
        self._file.close()
        self._bases.clear()
        self._maps.clear()


def empty(
    shape: Sequence[int], like: Tensor, store: Store | None, dtype: torch.dtype | None = None
) -> Tensor:
    """A contiguous tensor whose values are to be set.

    Args:
        shape: Its shape.
        like: A tensor on its device, and of its dtype.
        store: Where it lies, if that device is the CPU; None: in PyTorch's memory.
        dtype: Another dtype; None: that of ``like``.
    """
    if store is None or like.device.type != "cpu":
        return like.new_empty(tuple(shape), dtype=dtype or like.dtype)
    return store.zeros(shape, dtype or like.dtype)


class BandedTensor:
    """A tensor ``(…, rows, columns)`` of a picture, stored band by band.

    Args:
        store: Where it lies.
        bands: The picture's bands.
        leading: The sizes before the rows, such as ``(1, 3)`` for a picture.
        width: Columns.
        dtype: Of the values.
        level: Of the network; the bands then hold the positions that they own at that level, and
            rows and columns are counted in these.
    """

    def __init__(
        self,
        store: Store,
        bands: Sequence[Span],
        leading: Sequence[int],
        width: int,
        dtype: torch.dtype = torch.float32,
        level: int = 0,
    ) -> None:
        self._store = store
        self._level = level
        scaled = [
            Span(b.index, b.start >> level, b.stop >> level, 0, 0, b.length >> level) for b in bands
        ]
        self._bands = tuple(scaled)
        self.height = self._bands[-1].stop
        self.width = width
        self.leading = tuple(leading)
        self.dtype = dtype
        self._tensors = [
            store.zeros((*self.leading, band.owned_length, width), dtype) for band in self._bands
        ]

    def __len__(self) -> int:
        return len(self._tensors)

    def band(self, index: int) -> Tensor:
        """The rows that a band owns, ``(…, rows, columns)``: the stored values themselves."""
        return self._tensors[index]

    def read(self, rows: slice, columns: slice = slice(None)) -> Tensor:
        """A copy of a range of rows, which may go over several bands: of a piece with its halo.

        Args:
            rows: ``slice(low, high)`` in rows of the whole tensor.
            columns: A range of columns.
        """
        low, high, _ = rows.indices(self.height)
        first, last, _ = columns.indices(self.width)
        result = torch.empty(
            (*self.leading, high - low, last - first), dtype=self.dtype, device="cpu"
        )
        for part in parts(self._bands, low, high):
            result[..., part.of_range, :] = self._tensors[part.index][..., part.within, columns]
        return result

    def write(self, rows: slice, values: Tensor, columns: slice = slice(None)) -> None:
        """Replace a range of rows (and columns) by ``values``, converted to the tensor's dtype."""
        low, high, _ = rows.indices(self.height)
        for part in parts(self._bands, low, high):
            self._tensors[part.index][..., part.within, columns] = values[..., part.of_range, :]

    def add(self, rows: slice, values: Tensor, columns: slice = slice(None)) -> None:
        """Add ``values`` to a range of rows (and columns): a piece's gradient with its halo."""
        low, high, _ = rows.indices(self.height)
        for part in parts(self._bands, low, high):
            self._tensors[part.index][..., part.within, columns] += values[..., part.of_range, :]

    def fill(self, value: float) -> None:
        """Set every value, a band at a time."""
        for index, tensor in enumerate(self._tensors):
            tensor.fill_(value)
            self.release(index)

    def whole(self) -> Tensor:
        """A copy of all rows: for pictures that fit, and for tests."""
        return self.read(slice(0, self.height))

    def release(self, index: int | None = None) -> None:
        """Say that a band, or all of them, is not needed for now."""
        for tensor in self._tensors if index is None else [self._tensors[index]]:
            self._store.release(tensor)

    def release_rows(self, rows: slice) -> None:
        """Say that the bands that a range of rows lies in are not needed for now."""
        low, high, _ = rows.indices(self.height)
        for part in parts(self._bands, low, high):
            self.release(part.index)


def _reserve(file: int, at: int, length: int) -> None:
    """Make a file long enough for a range of bytes, zeros, with its blocks on the disk.

    Raises:
        OSError: if the disk is full.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, at, length)
        return
    os.lseek(file, at, os.SEEK_SET)
    zeros = bytes(min(_BLOCK, length))
    while length:
        length -= os.write(file, zeros[:length])
