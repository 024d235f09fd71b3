"""White noise by rows has the bits of the whole."""

from __future__ import annotations

import pytest
import torch

from fastnst.images import noise
from fastnst.images.noise import fill_with_noise
from fastnst.inputs.pictures import NOISE_MEAN, NOISE_STD, white_noise
from fastnst.strips.geometry import Spacing, spans
from fastnst.strips.storage import BandedTensor, MemoryStore


@pytest.mark.parametrize("chunk", [16, 160, 1 << 20])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 8), (33, 16), (301, 203), (97, 31)])
def test_noise_is_that_of_the_whole(
    size: tuple[int, int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "_CHUNK", chunk)
    height, width = size
    stored = BandedTensor(MemoryStore(), spans(height, 32, Spacing(16, 16)), (1, 3), width)
    fill_with_noise(stored, 7, NOISE_MEAN, NOISE_STD)
    assert torch.equal(stored.whole(), white_noise(torch.empty(1, 3, height, width), 7))
