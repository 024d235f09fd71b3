"""The gradient of L2 pooling against autograd."""

from __future__ import annotations

import torch

from fastnst.engines.planned.l2_pooling import unpool_l2
from fastnst.network.vgg import L2Pool


def test_equals_autograd_with_windows_of_zeros_and_an_odd_edge() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 7, 6, generator=generator, dtype=torch.float64)
    x[:, :, 2:4, 2:4] = 0
    x[:, :, 0:2, 4:6] = 1e-8  # below the least mean square: the root is constant there
    x.requires_grad_()
    pooled = L2Pool()(x)
    gradient = torch.rand(pooled.shape, generator=generator, dtype=torch.float64)
    (expected,) = torch.autograd.grad(pooled, x, gradient)
    found = torch.full_like(x, torch.nan)  # all of it is to be written
    unpool_l2(gradient, x.detach(), pooled.detach(), out=found)
    torch.testing.assert_close(found, expected)
