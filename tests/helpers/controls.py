"""Pictures, engines and bounds for the controls of the objective."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastnst.evaluation import Evaluation
from fastnst.ops import extension

ENGINES = [
    "torch",
    pytest.param(
        "native",
        marks=pytest.mark.skipif(not extension.is_available(), reason="no compiled extension"),
    ),
]
WIDTH, HEIGHT = 39, 30  # odd at a pooling


def picture(width: int, height: int, seed: int) -> Tensor:
    """Smooth colours with a little noise, as a picture has."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 7, 9, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return smooth + 0.05 * torch.randn(1, 3, height, width, generator=generator)


IMAGE, CONTENT = picture(WIDTH, HEIGHT, 0), picture(WIDTH, HEIGHT, 1)
STYLES = (picture(33, 41, 2), picture(28, 26, 3))


def compare(got: Evaluation, total: Tensor, gradient: Tensor) -> None:
    """float32 against float64: rounding of up to five layers, twice, and of their statistics."""
    assert float(got.terms.total) == pytest.approx(float(total.detach()), rel=1e-5)
    mine = got.gradient[0].double()
    cosine = torch.nn.functional.cosine_similarity(mine.flatten(), gradient.flatten(), dim=0)
    assert float(cosine) >= 0.99999
    assert float(mine.norm() / gradient.norm()) == pytest.approx(1, rel=1e-4)
