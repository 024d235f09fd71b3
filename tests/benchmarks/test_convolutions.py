"""The rows of ``ops`` on convolutions; suites/test_ops.py runs them all."""

from __future__ import annotations

import torch

from benchmarks import convolutions


def test_the_arm_of_a_gpu_runs() -> None:
    """On the CPU, where the same code runs."""
    x, weight, bias = torch.rand(1, 16, 9, 7), torch.rand(8, 16, 3, 3), torch.zeros(8)
    run_once = convolutions._planned(x, weight, bias, torch.rand(1, 8, 9, 7), torch.float32, "cpu")
    run_once()
