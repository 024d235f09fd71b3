"""The least time that a GPU could take: needed operations and bytes at its measured ceilings.

Convolutions are counted as direct ones, 2 · 9 · Ci · Co operations for each position and direction.
A feature is in traffic five times at least: it is written, read by the next layer and read as the
mask of its ReLU, and its gradient is written and read. The rates are those of a large matrix
product (in TF32 where PyTorch's flag allows it for convolutions) and of a large copy, measured in
the same run (``environment.ceilings``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

CONVOLUTIONS = 361_152  # multiply-adds a pixel of the picture to conv5_1, one direction
STYLE = 17_408  # multiply-adds a pixel of five Gram matrices, or of their gradient
FEATURES = 290  # values a pixel, conv1_1 to conv5_1
PASSES = 5
BYTES = {"fp32": 4, "bf16": 2}
PAIR_BYTES = 1 + 4 / 64  # of a value of a curvature pair: eight bits, and a scale for every 64


def evaluation(pixels: int, precision: str, ceilings: Mapping[str, Any]) -> float:
    """Seconds of one loss and gradient of the default objective."""
    flops = 2 * pixels * (2 * CONVOLUTIONS + STYLE // 2 + STYLE)  # half of a symmetric matrix
    moved = pixels * FEATURES * PASSES * BYTES[precision]
    traffic = moved / float(ceilings["copy_bytes_per_second"])
    return max(flops / convolution_rate(precision, ceilings), traffic)


def step(pixels: int, pairs: int, ceilings: Mapping[str, Any]) -> float:
    """Seconds of one L-BFGS step: its history, in eight bits, is read twice."""
    return 2 * 2 * pairs * 3 * pixels * PAIR_BYTES / float(ceilings["copy_bytes_per_second"])


def run(
    pixels: int, precision: str, evaluations: int, history: int, ceilings: Mapping[str, Any]
) -> float:
    """Seconds of a whole run from an empty history."""
    steps = sum(step(pixels, min(k, history), ceilings) for k in range(evaluations - 1))
    return evaluations * evaluation(pixels, precision, ceilings) + steps


def convolution_rate(precision: str, ceilings: Mapping[str, Any]) -> float:
    """The machine's matrix product in flop/s, as precise as its convolutions are."""
    flag = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    tf32 = precision == "fp32" and flag == "tf32"
    if tf32 and "gemm_tf32_flops" in ceilings:
        return float(ceilings["gemm_tf32_flops"])
    return float(ceilings[f"gemm_{precision}_flops"])
