"""The textbook loop minimises fastnst's objective."""

from __future__ import annotations

import pytest
import torch

import fastnst
from benchmarks import setups


@pytest.fixture(scope="module")
def pictures() -> fastnst.Pictures:
    return setups.pictures("sample:harbour", "sample:swirl", 48)


def _gram(features: torch.Tensor) -> torch.Tensor:
    f = features.flatten(2)[0]
    return f @ f.T / f.shape[1]


@pytest.mark.slow
def test_reference_has_the_objective_of_fastnst(pictures: fastnst.Pictures) -> None:
    image = setups.white_noise(pictures.content, seed=3).double()
    content, style = pictures.content.double(), pictures.style.double()
    weights, settings = fastnst.load_weights(), fastnst.Settings()
    objective = fastnst.build_objective(weights, content, style, settings, backend="torch")
    textbook = setups.reference(pictures.content, pictures.style)
    textbook.network.double()
    textbook.content = {k: textbook.network(content)[k] for k in textbook.content}
    features = textbook.network(style)
    textbook.style = {k: _gram(features[k]) for k in textbook.style}
    x, y = image.clone().requires_grad_(), image.clone().requires_grad_()
    ours, theirs = objective(x).total, textbook.loss(y)
    assert float(theirs.detach()) == pytest.approx(float(ours.detach()), rel=1e-12)
    (gradient,) = torch.autograd.grad(ours, x)
    (expected,) = torch.autograd.grad(theirs, y)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_reference_yields_each_picture_with_its_loss(pictures: fastnst.Pictures) -> None:
    textbook = setups.reference(pictures.content, pictures.style)
    steps = textbook.optimise(pictures.start)
    for count in range(4):
        image, value = next(steps)
        assert setups.score(textbook, image) == pytest.approx(value, rel=1e-6)
        if count == 0:
            assert torch.equal(image, pictures.start)
    assert not torch.equal(image, pictures.start)
