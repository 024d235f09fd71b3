"""The total variation with edges replicated: its value, its gradient, and what it is made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fastnst.losses import TotalVariationLoss


def nine_point(image: Tensor) -> Tensor:
    """The definition, with the edges replicated by torch."""
    x = torch.nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    down = (x[..., 2:, 1:-1] - x[..., 1:-1, 1:-1]).square().mean()
    right = (x[..., 1:-1, 2:] - x[..., 1:-1, 1:-1]).square().mean()
    falling = (x[..., 1:, 1:] - x[..., :-1, :-1]).square().mean()
    rising = (x[..., 1:, :-1] - x[..., :-1, 1:]).square().mean()
    return 2 / 3 * (down + right) + 1 / 6 * (falling + rising)


@pytest.mark.parametrize("shape", [(1, 3, 7, 5), (1, 3, 1, 4), (2, 3, 1, 1), (1, 3, 2, 2)], ids=str)
def test_nine_points_have_the_value_and_gradient_of_the_definition(shape: tuple) -> None:
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results = []
    for function in (TotalVariationLoss("nine-point"), nine_point):
        x = image.clone().requires_grad_()
        value = function(x)
        results.append((value.detach(), *torch.autograd.grad(value, x)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


def test_nothing_in_it_adds_in_no_fixed_order() -> None:
    """The gradient of torch's padding does on a GPU: a resumed run would not be the run itself."""
    called: set[str] = set()

    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
            called.add(str(function))
            return function(*args, **(kwargs or {}))

    image = torch.rand(1, 3, 6, 5, requires_grad=True)
    with Names():
        TotalVariationLoss("nine-point")(image).backward()
    assert called
    assert not [name for name in called if "replication_pad" in name or "index_put" in name]


@pytest.mark.parametrize("form", ["squared", "squared-sum", "color"])
@pytest.mark.parametrize("shape", [(1, 3, 7, 5), (1, 3, 1, 4), (2, 3, 1, 1), (1, 3, 2, 2)], ids=str)
def test_the_gradient_that_is_written_down_is_that_of_autograd(form: str, shape: tuple) -> None:
    loss = TotalVariationLoss(form)
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = image.clone().requires_grad_()
    value = loss(x)
    (gradient,) = torch.autograd.grad(value, x)
    found = loss.differentiate(image)
    for ours, theirs in zip(found, (value.detach(), gradient), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-15)


def test_color_sees_no_grey_and_each_colour_once() -> None:
    """Grey has no colour; blue of amplitude a has U = 0.886 a and V = −0.114 a."""
    noise = torch.rand(1, 1, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss = TotalVariationLoss("color")
    assert loss(noise.expand(1, 3, 6, 5)) < 1e-30  # rounding of 0.299 + 0.587 + 0.114
    blue = torch.cat([torch.zeros_like(noise), torch.zeros_like(noise), noise], 1)
    alone = TotalVariationLoss("squared")(noise)
    torch.testing.assert_close(loss(blue), alone * (0.886**2 + 0.114**2) / 2)
