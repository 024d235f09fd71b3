"""Pictures, weights and objective are the same for all."""

from __future__ import annotations

import pytest
import torch

import fastnst
from benchmarks import setups
from fastnst.inputs.pictures import white_noise


@pytest.fixture(scope="module")
def pictures() -> fastnst.Pictures:
    return setups.pictures("sample:harbour", "sample:swirl", 48)


def test_reference_starts_from_the_noise_of_fastnst(pictures: fastnst.Pictures) -> None:
    assert torch.equal(setups.white_noise(pictures.content, 7), white_noise(pictures.content, 7))


def test_reference_refuses_what_it_does_not_compute(pictures: fastnst.Pictures) -> None:
    with pytest.raises(ValueError, match="average pooling"):
        setups.reference(pictures.content, pictures.style, fastnst.Settings(pooling="max"))
