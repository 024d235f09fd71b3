"""Sums over the bands of a picture, with the same bits whoever adds what in which order.

Two ways. Gram matrices and other tensors are added as integers (fixed point), which is exact, so
the order is of no account. Scalars are kept one row for each band and added in the bands' order in
float64. The sums within a band are those of ``fastnst.ops.sums``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LIMIT = 2**62  # what a sum in units stays within: half of what an int64 holds
_GUARD_UNIT = 2**20  # the guard counts in these many units, so that it never overflows itself
_GUARD_LIMIT = _LIMIT // _GUARD_UNIT
_ABOVE = 40  # a wide sum may be 2**40 times what was expected
_ADDENDS = 16  # and have 2**16 addends
_LARGEST_SHIFT = 1000  # 2.0**shift and 2.0**-shift are normal numbers up to 1022


class FixedPointSum:
    """A sum of tensors as int64 fixed point: exact whatever the order, and overflow is noticed.

    Each addend is rounded once, to the nearest multiple of ``2 ** -shift``; additions are exact.
    The shift is at most 1000, so entries below ``2 ** -1001`` count as zero.
    With k addends the result is within ``k * 2 ** -(shift + 1)`` of the exact sum. With the bound a
    thousand times the largest entry, an entry a thousandth of the largest is still known to
    ``2 ** -42`` of its value, k times.

    Args:
        shape: Shape of the addends.
        bound: The sum of the addends' largest absolute values stays below it. A generous bound
            costs little: each factor of 2 costs one of 62 bits.
        device: Where the sum is kept.
    """

    def __init__(
        self, shape: tuple[int, ...], bound: float, device: torch.device | str = "cpu"
    ) -> None:
        if not (math.isfinite(bound) and bound > 0):
            message = f"the bound of a sum is {bound}: expected a positive number"
            raise ValueError(message)
        self.shape = shape
        # frexp: bound = m · 2^e with m < 1, so the sum stays below 2^61 units, half of the limit;
        # the other half is for the guard, which counts every addend up.
        self.shift = min(61 - math.frexp(bound)[1], _LARGEST_SHIFT)
        self._state = torch.zeros(math.prod(shape) + 1, dtype=torch.int64, device=device)

    def add(self, addend: Tensor) -> None:
        """Add a tensor of the sum's shape: float32 or float64, finite or not, on any device."""
        values = addend.detach().to(self._state.device, torch.float64).reshape(-1)
        units = values * 2.0**self.shift
        largest = units.abs().amax() if units.numel() else units.new_zeros(())
        # What is not finite, or breaks the limit alone, is more than the guard allows.
        guard = (largest / _GUARD_UNIT).ceil().nan_to_num(nan=math.inf).clamp(max=_GUARD_LIMIT + 1)
        self._state[:-1] += units.nan_to_num().clamp(-_LIMIT, _LIMIT).round().long()
        self._state[-1] += guard.long()

    def rest(self, addend: Tensor) -> Tensor:
        """What ``add`` loses of a tensor by rounding: exact, float64, below half a unit."""
        values = addend.detach().to(self._state.device, torch.float64)
        units = (values * 2.0**self.shift).nan_to_num().clamp(-_LIMIT, _LIMIT).round()
        return values - units * 2.0**-self.shift

    @property
    def table(self) -> Tensor:
        """The sum itself, which whoever adds up those of several parties may write to."""
        return self._state

    def state(self) -> Tensor:
        """The sum so far, as int64 of shape ``(n + 1,)``; states add up entry by entry.

        So several parties' states may be added in any order (an all-reduce) and given to ``load``.
        """
        return self._state.clone()

    def merge(self, state: Tensor) -> None:
        """Add another party's ``state()``, made with the same shape and bound."""
        self._state += state.to(self._state.device)

    def load(self, state: Tensor) -> None:
        """Replace the sum by a state."""
        self._state.copy_(state)

    def clear(self) -> None:
        """Begin again at zero."""
        self._state.zero_()

    @property
    def holds(self) -> bool:
        """Whether all addends were finite and kept to the bound."""
        return int(self._state[-1]) <= _GUARD_LIMIT

    def value(self) -> Tensor:
        """The sum, float64, in the addends' shape; all NaN unless it ``holds``."""
        total = self._state[:-1].double() * 2.0**-self.shift
        # A choice on the device: nothing waits for a GPU.
        return total.masked_fill(self._state[-1] > _GUARD_LIMIT, math.nan).reshape(self.shape)


class WideSum:
    """The same for addends whose size nobody knows beforehand: two integers for each entry.

    What the first integer rounds away the second one has: an entry is rounded to a multiple of
    ``2 ** -64`` of the expected size, and may be ``2 ** 40`` times that size, in up to 65536
    addends.

    Args:
        shape: Shape of the addends.
        size: What the sum is expected to be, to a few powers of ten.
    """

    def __init__(self, shape: tuple[int, ...], size: float) -> None:
        self._coarse = FixedPointSum(shape, size * 2.0**_ABOVE)
        self._fine = FixedPointSum(shape, 2.0 ** (_ADDENDS - self._coarse.shift))

    def add(self, addend: Tensor) -> None:
        """Add a tensor of the sum's shape: float32 or float64, finite or not, on any device."""
        addend = addend.detach().to(self._coarse.table.device)
        self._coarse.add(addend)
        self._fine.add(self._coarse.rest(addend))

    @property
    def tables(self) -> tuple[Tensor, Tensor]:
        """The sum itself as int64, which whoever adds up those of several parties may write to."""
        return self._coarse.table, self._fine.table

    def value(self) -> Tensor:
        """The sum, float64, in the addends' shape; all NaN if any was not finite, or too large."""
        return self._coarse.value() + self._fine.value()


class GramSum:
    """A ``WideSum`` of Gram matrices, which are symmetric: half of their entries are added.

    Args:
        channels: C of matrices ``(C, C)``.
        size: What the largest entry of the sum is expected to be, to a few powers of ten.
    """

    def __init__(self, channels: int, size: float) -> None:
        self._channels = channels
        self._sum = WideSum((channels * (channels + 1) // 2,), size)

    def add(self, matrix: Tensor) -> None:
        """Add a matrix, float32 or float64, on any device."""
        self._sum.add(upper_triangle(matrix))

    @property
    def tables(self) -> tuple[Tensor, Tensor]:
        """As those of a ``WideSum``."""
        return self._sum.tables

    def value(self) -> Tensor:
        """The sum ``(C, C)`` float64; all NaN if any addend was not finite, or too large."""
        return symmetric(self._sum.value(), self._channels)


def upper_triangle(matrix: Tensor) -> Tensor:
    """The upper triangle of a symmetric ``(n, n)``, row by row, as ``(n * (n + 1) / 2,)``."""
    n = matrix.shape[0]
    rows, columns = torch.triu_indices(n, n, device=matrix.device)
    return matrix[rows, columns]


def symmetric(upper: Tensor, n: int) -> Tensor:
    """The symmetric ``(n, n)`` of which ``upper_triangle`` gives ``upper``."""
    rows, columns = torch.triu_indices(n, n, device=upper.device)
    matrix = upper.new_empty(n, n)
    matrix[rows, columns] = upper
    matrix[columns, rows] = upper
    return matrix


class BandSums:
    """Scalars of which each band knows its part, added in the bands' order.

    Args:
        bands: Number of bands.
        terms: Number of scalars.
    """

    def __init__(self, bands: int, terms: int) -> None:
        self._table = torch.zeros(bands, terms, dtype=torch.float64, device="cpu")

    def set(self, band: int, values: Tensor) -> None:
        """Give a band's parts of all scalars, ``(terms,)``, float32 or float64."""
        self._table[band] = values.detach().to("cpu", torch.float64)

    def state(self) -> Tensor:
        """The parts, ``(bands, terms)`` float64: zeros for bands that another party computes.

        So several parties' states may be added in any order (an all-reduce) and given to ``load``.
        """
        return self._table.clone()

    def merge(self, state: Tensor) -> None:
        """Add the ``state()`` of another party, which computed other bands."""
        self._table += state

    def load(self, state: Tensor) -> None:
        """Replace all parts by a state."""
        self._table.copy_(state)

    def value(self) -> Tensor:
        """The scalars, ``(terms,)`` float64."""
        total = torch.zeros_like(self._table[0])
        for parts in self._table:  # one after the other: sum(0) is free to choose its order
            total += parts
        return total
