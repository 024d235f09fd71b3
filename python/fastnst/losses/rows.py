"""Sums over pictures that losses have in common."""

from __future__ import annotations

from torch import Tensor


def sum_by_rows(x: Tensor) -> Tensor:
    """The sum of ``(B, C, H, W)``, 0-dimensional: row by row, so that threads change no bit."""
    total: Tensor = x.sum(-1).sum(-1).sum()
    return total
