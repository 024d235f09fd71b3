"""The vectors of a history: stored one by one, read all together, band by band."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from fastnst.ops import buffers, sums
from fastnst.ops.history import CompressedRows
from fastnst.solvers.state import State
from fastnst.solvers.vectors import PLAIN, Placement, Vector, total


class Rows(Protocol):
    """Vectors that are stored one by one and read all together."""

    def store(self, row: int, x: Tensor) -> None:
        """Set a row to x, ``(n,)``."""
        ...

    def products(self, used: int, x: Tensor) -> Tensor:
        """The inner products of the first rows with x, ``(used,)`` float64."""
        ...

    def add_combination(self, weights: Tensor, out: Tensor) -> None:
        """out += Σ weights[r] · row r, over as many rows as there are weights."""
        ...

    def memory(self) -> tuple[Tensor, ...]:
        """The tensors that all rows lie in."""
        ...

    def tensors(self, used: int) -> dict[str, Tensor]:
        """The first rows, in a form that ``restore`` takes; the others hold nothing afterwards."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite the first rows with what ``tensors`` of rows of this kind returned."""
        ...


class DenseRows:
    """Rows in the dtype of the pictures, in one tensor ``(rows, n)``."""

    def __init__(self, rows: int, like: Tensor, placement: Placement = PLAIN) -> None:
        self.rows = placement.empty((rows, like.numel()), like)

    def store(self, row: int, x: Tensor) -> None:
        """Set a row to x, ``(n,)``."""
        self.rows[row] = x

    def products(self, used: int, x: Tensor) -> Tensor:
        """The inner products of the first rows with x, ``(used,)`` float64, added up in double."""
        return sums.products(self.rows[:used], x)

    def add_combination(self, weights: Tensor, out: Tensor) -> None:
        """out += Σ weights[r] · row r, over as many rows as there are weights."""
        out.addmv_(self.rows[: len(weights)].T, weights)

    def memory(self) -> tuple[Tensor, ...]:
        """The tensor that all rows lie in."""
        return (self.rows,)

    def tensors(self, used: int) -> dict[str, Tensor]:
        """The first rows, in a form that ``restore`` takes."""
        return {"rows": self.rows[:used]}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite the first rows with what ``tensors`` of rows of this kind returned."""
        rows = tensors["rows"]
        self.rows[: len(rows)] = rows


class BandedRows:
    """Rows that are vectors: of each band its rows, in eight bits where the kernels take them.

    Args:
        rows: How many rows there is room for.
        like: A picture.
        placement: How vectors are cut into bands, and where they lie.
    """

    def __init__(self, rows: int, like: Tensor, placement: Placement) -> None:
        plain = like.device.type == "cpu" and like.dtype == torch.float32
        compressed = plain and buffers.unavailable_reason(like) is None
        self._placement = placement
        self._like = like.new_empty(0)

        def make(view: Tensor) -> Rows:
            if compressed:
                allocate = partial(placement.empty, like=self._like)
                return CompressedRows(
                    *(rows, view.numel(), lambda shape, dtype: allocate(shape, dtype=dtype)),
                    copies=placement.store is None,
                )
            return DenseRows(rows, view, placement)

        self.bands = [make(view) for view in placement.views(like)]

    def store(self, row: int, x: Vector) -> None:
        """Set a row to x."""
        for rows, part in zip(self.bands, x, strict=True):
            rows.store(row, part)
            self._placement.release(*rows.memory())

    def products(self, used: int, x: Vector) -> Tensor:
        """The inner products of the first rows with x, ``(used,)`` float64."""

        def of(rows: Rows, part: Tensor) -> Tensor:
            found = rows.products(used, part)
            self._placement.release(*rows.memory(), part)
            return found

        found = (of(rows, part) for rows, part in zip(self.bands, x, strict=True))
        return total(found, self._placement)

    def add_combination(self, weights: Tensor, out: Vector) -> None:
        """out += Σ weights[r] · row r, over as many rows as there are weights."""
        weights = weights.to(self._like)
        for rows, part in zip(self.bands, out, strict=True):
            rows.add_combination(weights, part)
            self._placement.release(*rows.memory(), part)

    def state(self, used: int) -> State:
        """The first rows, in a form that ``restore`` takes."""
        found = State()
        for label, rows in zip(self._placement.labels, self.bands, strict=True):
            own = State(tensors=rows.tensors(used))
            found |= own.under(label) if label else own
        return found

    def restore(self, state: State) -> None:
        """Overwrite the first rows with those that a ``state`` of the same bands has."""
        for label, rows in zip(self._placement.labels, self.bands, strict=True):
            rows.restore((state.part(label) if label else state).tensors)
