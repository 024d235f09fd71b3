"""Sums over pictures that losses have in common."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Numbers of half precision in float32, in which sums are taken; others as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def sum_by_rows(x: Tensor) -> Tensor:
    """The sum of ``(B, C, H, W)``, 0-dimensional: row by row, so that threads change no bit."""
    total: Tensor = x.sum(-1).sum(-1).sum()
    return total
