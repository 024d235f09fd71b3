"""Vectors in eight bits, for the curvature pairs of L-BFGS.

A row of n floats becomes n integers from −127 to 127 and one scale for every 64 of them: a quarter
of the memory of float32, and of the time that a pass over all rows takes, which is as quick as
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.ops.buffers import CPU, check_buffer
from fastnst.ops.extension import call, loaded

CHUNK = 4096  # values of a row that lie together
BLOCK = 64  # values that share a scale

Allocate = Callable[[tuple[int, ...], torch.dtype], Tensor]


class EightBitRows:
    """Room for rows of floats in eight bits, in the layout of ``History`` of csrc/fastnst.h.

    Args:
        rows: How many rows there is room for.
        length: n, the number of values of a row.
        device: Where they are.
        allocate: Makes a contiguous tensor of a shape and a dtype there; None: PyTorch.

    Attributes:
        values: ``(chunks, rows, 4096)`` int8.
        scales: ``(chunks, rows, 64)`` float32.
    """

    def __init__(
        self, rows: int, length: int, device: torch.device, allocate: Allocate | None = None
    ) -> None:
        chunks = -(-length // CHUNK)
        self.rows = rows
        self.length = length
        make = allocate or partial(_empty, device)
        self.values = make((chunks, rows, CHUNK), torch.int8)
        self.scales = make((chunks, rows, CHUNK // BLOCK), torch.float32)

    @property
    def address(self) -> tuple[int, int, int, int]:
        """The rows as the extension takes them: how many, n, addresses of values and scales."""
        return self.rows, self.length, self.values.data_ptr(), self.scales.data_ptr()


class CompressedRows(EightBitRows):
    """Rows of floats in eight bits on the CPU.

    Args:
        rows: How many rows there is room for.
        length: n, the number of values of a row.
        allocate: Makes a contiguous tensor on the CPU of a shape and a dtype; None: PyTorch.
        copies: Whether few rows are saved alone, as a copy; not where they lie in a file, beside
            which there is no memory for one.

    Raises:
        BackendUnavailable: the extension is not loaded, or ``FASTNST_CPU_ISA`` cannot run here.
    """

    def __init__(
        self, rows: int, length: int, allocate: Allocate | None = None, copies: bool = True
    ) -> None:
        super().__init__(rows, length, CPU, allocate)
        self.copies = copies
        self._restored: bool | None = None  # whether few rows were, until the next ``store``
        loaded()

    def store(self, row: int, x: Tensor) -> None:
        """Row ← x ``(n,)`` float32, finite.

        A value is rounded by at most 1/254 of the largest magnitude among the 64 of its block.
        """
        if not 0 <= row < self.rows:
            raise InvalidInput(f"row: expected 0 to {self.rows - 1}, got {row}")
        self._restored = None
        check_buffer("x", x, (self.length,))
        call(loaded().history_store, self.address, row, x.data_ptr(), torch.get_num_threads())

    def products(self, used: int, x: Tensor) -> Tensor:
        """The inner products of the first ``used`` rows with x ``(n,)``: ``(used,)`` float64."""
        self._check_used(used)
        check_buffer("x", x, (self.length,))
        products = torch.empty(used, dtype=torch.float64, device="cpu")
        call(
            loaded().history_products,
            self.address,
            used,
            x.data_ptr(),
            products.data_ptr(),
            torch.get_num_threads(),
        )
        return products

    def add_combination(self, weights: Tensor, out: Tensor) -> None:
        """Out ``(n,)`` += Σ weights[r] · row r, over as many rows as there are weights; float32."""
        used = weights.numel()
        self._check_used(used)
        check_buffer("weights", weights, (used,))
        check_buffer("out", out, (self.length,))
        call(
            loaded().history_combination,
            self.address,
            used,
            weights.data_ptr(),
            out.data_ptr(),
            torch.get_num_threads(),
        )

    def memory(self) -> tuple[Tensor, ...]:
        """The tensors that all rows lie in."""
        return self.values, self.scales

    def tensors(self, used: int) -> dict[str, Tensor]:
        """The first ``used`` rows as they are stored, for ``restore``.

        Where they are more than half of all, it is all rows, in their own memory, which the next
        ``store`` changes; those that are not in use become zeros. So no more memory is ever taken
        than that of all rows: a copy of up to half of them takes what the others have not yet.
        """
        own = {"values": self.values, "scales": self.scales}
        few = self.copies and 2 * used <= self.rows
        if self._restored is not None:
            few = self._restored
        if few:
            return {name: rows[:, :used].clone() for name, rows in own.items()}
        for rows in own.values():
            rows[:, used:] = 0
        return own

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite the first rows with what ``tensors`` of rows of this length returned."""
        rows = tensors["values"].shape[1]
        self._restored = rows < self.rows  # their state is that which they have been given
        self.values[:, :rows] = tensors["values"]
        self.scales[:, :rows] = tensors["scales"]

    def _check_used(self, used: int) -> None:
        if not 1 <= used <= self.rows:
            raise InvalidInput(f"used: expected 1 to {self.rows} rows, got {used}")


def _empty(device: torch.device, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)
