"""An engine's loss as a node of torch's autograd."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fastnst.engines.create import create_engine, unavailable_reason
from fastnst.engines.differentiable import differentiable_loss
from fastnst.network.weights import Weights
from helpers.engines import SETTINGS, pictures


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_is_part_of_autograd(random_weights: Weights, engine: str) -> None:
    if reason := unavailable_reason(engine, torch.device("cpu")):
        pytest.skip(reason)
    content, style, image = pictures(24, 31)
    made = create_engine(random_weights, content, style, replace(SETTINGS[0], engine=engine))
    expected = made.evaluate(image.sigmoid())
    total, gradient = expected.terms.total.clone(), expected.gradient.clone()
    z = image.clone().requires_grad_()
    loss = differentiable_loss(made, z.sigmoid())
    made.evaluate(image)  # may reuse the memory of the gradient
    (3 * loss).backward()
    assert torch.equal(loss.detach(), total)
    x = image.sigmoid()
    torch.testing.assert_close(z.grad, 3 * gradient * x * (1 - x))
    (first,) = torch.autograd.grad(differentiable_loss(made, z), z, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad"):
        first.sum().backward()
