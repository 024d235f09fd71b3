"""Pictures, weights and objective are the same for all."""

from __future__ import annotations

import pytest
import torch

import fastnst
from benchmarks import setups
from fastnst.inputs.pictures import NOISE_MEAN, NOISE_STD, white_noise


@pytest.fixture(scope="module")
def pictures() -> fastnst.Pictures:
    return setups.pictures("sample:harbour", "sample:swirl", 48)


def test_reference_starts_from_the_noise_of_fastnst_at_its_own_amplitude(
    pictures: fastnst.Pictures,
) -> None:
    theirs, ours = (make(pictures.content, 7) for make in (setups.white_noise, white_noise))
    scaled = NOISE_MEAN + (theirs - 0.5) * NOISE_STD / 0.05
    torch.testing.assert_close(ours, scaled, rtol=0, atol=1e-7)  # roundings of float32 near 0.5


def test_reference_refuses_what_it_does_not_compute(pictures: fastnst.Pictures) -> None:
    with pytest.raises(ValueError, match="average pooling"):
        setups.reference(pictures.content, pictures.style, fastnst.Settings(pooling="max"))
