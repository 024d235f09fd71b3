"""Sums by rows: right, differentiable, and the same whatever the number of threads."""

from __future__ import annotations

import torch

from fastnst.losses.rows import sum_by_rows


def test_the_sum_and_its_gradient() -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 3, 17, 31, generator=generator, dtype=torch.float64).requires_grad_()
    total = sum_by_rows(x)
    total.backward()
    # both are sums of 3162 float64 values, in other orders
    torch.testing.assert_close(total, x.sum(), rtol=1e-12, atol=1e-12)
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))
    assert float(sum_by_rows(torch.zeros(1, 3, 0, 5))) == 0.0


def test_threads_change_no_bit() -> None:
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(1, 3, 251, 333, generator=generator)
    before = torch.get_num_threads()
    try:
        found = set()
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.add(float(sum_by_rows(x)))
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1
