"""How far the CUDA kernels may be from float64, entry by entry.

Results are from the emulator (test_cuda_kernels.py) or from a GPU (test_cuda_ops.py).
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

# Rounding errors relative to the same sum with every term positive. One float32 rounding is 6e-8;
# sums are at most 256 long before they are flushed, and their errors mostly cancel. A rounding to
# TF32 is off by 2^-11 at most, two of them by 2^-10; one to bfloat16 (of D alone) by 2^-8.
SUMS = 1.5e-6
TWO_TF32, ONE_BFLOAT16 = 2.0**-10, 2.0**-8


class Layer(Protocol):
    """What was asked of the gradient; features and out are (B, C, N), difference is (B, C, C)."""

    @property
    def features(self) -> Tensor: ...
    @property
    def difference(self) -> Tensor: ...
    @property
    def scale(self) -> float: ...
    @property
    def relu_mask(self) -> bool: ...
    @property
    def out(self) -> Tensor: ...
    @property
    def accumulate(self) -> bool: ...


def check_gram(
    x: Tensor, target: Tensor | None, precision: str, result: tuple[Tensor | None, ...]
) -> None:
    """Every entry of G and D, and the loss, against float64."""
    gram, difference, loss = result
    wide, positions = x.double(), x.shape[2]
    truth, scale = wide @ wide.mT / positions, wide.abs() @ wide.abs().mT / positions
    rounded = x.dtype == torch.float32 and precision != "fp32"
    bound = (SUMS + (TWO_TF32 if rounded else 0)) * scale
    assert ((gram.double() - truth).abs() <= bound).all()
    assert torch.equal(gram, gram.mT)
    if target is None:
        return
    distance = truth - target.double()
    slack = bound + 1e-7 * (truth.abs() + target.abs())  # D is rounded once more
    assert ((difference.double() - distance).abs() <= slack).all()
    expected = difference.double().square().mean()  # exact terms, summed in double, rounded once
    assert abs(loss.double() - expected) <= 1e-7 * expected


def check_gradient(layer: Layer, precision: str, result: Tensor) -> None:
    """Every entry against float64."""
    x = layer.features.double()
    symmetric = (layer.difference + layer.difference.mT).double() / 2
    mask = ~(layer.features <= 0) if layer.relu_mask else torch.ones_like(x)
    before = layer.out.double() if layer.accumulate else torch.zeros_like(x)
    truth = before + layer.scale * mask * (symmetric @ x)
    scale = abs(layer.scale) * (symmetric.abs() @ x.abs())
    half = layer.features.dtype == torch.bfloat16
    coarse = {"fp32": 0.0, "tf32": TWO_TF32, "bf16": ONE_BFLOAT16 if half else TWO_TF32}[precision]
    stored = 2.0**-8 if layer.out.dtype == torch.bfloat16 else 2.0**-22
    bound = (SUMS + coarse) * scale * mask + stored * (truth.abs() + before.abs() + scale * mask)
    assert ((result.double() - truth).abs() <= bound).all()
