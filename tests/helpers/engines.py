"""Objectives and evaluations to hold engines to each other."""

from __future__ import annotations

import pytest
import torch

from fastnst.evaluation import Evaluation
from fastnst.settings.settings import Settings

SETTINGS = [
    Settings(content_layers=("relu2_2",), style_layers=("relu1_1", "relu2_1", "relu3_1")),
    Settings(content_layers=("conv2_2",), style_layers=("conv1_1", "conv2_2", "conv3_1")),
    Settings(content_layers=("pool1",), style_layers=("pool2", "pool1"), tv_weight=2.0),
    Settings(content_layers=("conv1_1", "relu1_1"), style_weight=0.0),
    Settings(content_weight=0.0, style_layers=("relu1_2",)),
    Settings(content_layers=("relu1_2",), style_layers=("conv1_2", "relu1_2", "pool1", "relu2_2")),
    Settings(content_layers=("relu3_1", "pool2"), style_layers=("relu1_1",)),
]


def pictures(width: int, height: int, count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(count, 1, 3, 7, 9, generator=generator)
    return [
        torch.nn.functional.interpolate(x, (height, width), mode="bicubic")
        + 0.05 * torch.randn(1, 3, height, width, generator=generator)
        for x in coarse
    ]


def compare(got: Evaluation, expected: Evaluation) -> None:
    """float32 against float32: rounding of up to 13 layers, twice."""
    for a, b in (
        (got.terms.content, expected.terms.content),
        (got.terms.style, expected.terms.style),
        ({"tv": got.terms.tv}, {"tv": expected.terms.tv}),
        ({"total": got.terms.total}, {"total": expected.terms.total}),
    ):
        assert list(a) == list(b)
        for key in a:
            assert float(a[key]) == pytest.approx(float(b[key]), rel=1e-5), key
    x, y = got.gradient.double().flatten(), expected.gradient.double().flatten()
    assert got.gradient.shape == expected.gradient.shape
    assert float(torch.nn.functional.cosine_similarity(x, y, dim=0)) >= 0.99999
    assert float(x.norm() / y.norm()) == pytest.approx(1, rel=1e-4)
