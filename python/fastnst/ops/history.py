"""Vectors kept in eight bits by the compiled kernels, for the curvature pairs of L-BFGS.

A row of n floats becomes n integers from −127 to 127 and one scale for every 64 of them: a quarter of
the memory of float32, and of the time that a pass over all rows takes, which is as quick as memory.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.ops.buffers import check_buffer
from fastnst.ops.extension import call, loaded

CHUNK = 4096  # values of a row that lie together
BLOCK = 64  # values that share a scale


class CompressedRows:
    """Rows of floats in eight bits.

    Args:
        rows: How many there is room for.
        length: n, values of each.

    Attributes:
        values: ``(chunks, rows, 4096)`` int8.
        scales: ``(chunks, rows, 64)`` float32.

    Raises:
        BackendUnavailable: without the extension, or ``FASTNST_CPU_ISA`` cannot run here.
    """

    def __init__(self, rows: int, length: int) -> None:
        chunks = -(-length // CHUNK)
        self.rows = rows
        self.length = length
        self.values = torch.empty(chunks, rows, CHUNK, dtype=torch.int8, device="cpu")
        self.scales = torch.empty(chunks, rows, CHUNK // BLOCK, dtype=torch.float32, device="cpu")
        loaded()

    def store(self, row: int, x: Tensor) -> None:
        """Row ← x ``(n,)`` float32, finite, each value rounded by at most 1/254 of its block's largest."""
        if not 0 <= row < self.rows:
            raise InvalidInput(f"row: expected 0 to {self.rows - 1}, got {row}")
        check_buffer("x", x, (self.length,))
        call(loaded().history_store, self._address(), row, x.data_ptr(), torch.get_num_threads())

    def products(self, used: int, x: Tensor) -> Tensor:
        """The inner products of the first ``used`` rows with x ``(n,)``: ``(used,)`` float64."""
        self._check_used(used)
        check_buffer("x", x, (self.length,))
        products = torch.empty(used, dtype=torch.float64, device="cpu")
        call(
            loaded().history_products,
            self._address(),
            used,
            x.data_ptr(),
            products.data_ptr(),
            torch.get_num_threads(),
        )
        return products

    def add_combination(self, weights: Tensor, out: Tensor) -> None:
        """out ``(n,)`` += Σ weights[r] · row r over as many rows as there are weights, float32."""
        used = weights.numel()
        self._check_used(used)
        check_buffer("weights", weights, (used,))
        check_buffer("out", out, (self.length,))
        call(
            loaded().history_combination,
            self._address(),
            used,
            weights.data_ptr(),
            out.data_ptr(),
            torch.get_num_threads(),
        )

    def tensors(self, used: int) -> dict[str, Tensor]:
        """The first rows as they are stored, to be saved."""
        values, scales = self.values[:, :used], self.scales[:, :used]
        return {"values": values.contiguous(), "scales": scales.contiguous()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take rows that ``tensors`` made."""
        used = tensors["values"].shape[1]
        self.values[:, :used] = tensors["values"]
        self.scales[:, :used] = tensors["scales"]

    def _check_used(self, used: int) -> None:
        if not 1 <= used <= self.rows:
            raise InvalidInput(f"used: expected 1 to {self.rows} rows, got {used}")

    def _address(self) -> tuple[int, int, int, int]:
        return self.rows, self.length, self.values.data_ptr(), self.scales.data_ptr()
