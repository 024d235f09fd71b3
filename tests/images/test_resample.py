"""Lanczos by rows against Pillow's of the whole picture."""

from __future__ import annotations

import numpy as np
import pytest

from fastnst.images import resample
from fastnst.images.pixels import resize
from fastnst.images.resample import ResizedRows
from fastnst.images.rows import PixelRows
from helpers.pictures import X86_64, smooth

SIZES = [(61, 47), (30, 200), (200, 30), (122, 94), (61, 95), (33, 47), (1, 1), (7, 301), (61, 48)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [1, 17, 1000])
def test_strips_are_those_of_the_whole(
    size: tuple[int, int], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resample, "STRIP_BYTES", 12 * 61 * 5)  # five source rows at a time
    noise = np.random.default_rng(0).normal(0, 0.05, (47, 61, 3))
    pixels = (smooth(61, 47) / 255 + noise).clip(0, 1).astype(np.float32)
    width, height = size
    source = ResizedRows(PixelRows(pixels), width, height)
    got = np.concatenate(
        [source.rows(a, min(a + step, height)) for a in range(0, height, step)], axis=0
    )
    want = resize(pixels, width, height)
    assert got.shape == want.shape
    assert got.dtype == np.float32
    # One unit in the last place of 1.0: a compiler that fuses multiplication and addition may round
    # Pillow's float64 sums otherwise, and Pillow may take its two passes in the other order where
    # one side grows and the other shrinks. With the x86-64 wheels the bits are else the same.
    crossed = (width - 61) * (height - 47) < 0
    np.testing.assert_allclose(got, want, rtol=0, atol=0 if X86_64 and not crossed else 2**-23)


def test_a_tall_picture_keeps_its_rows_apart() -> None:
    # Pillow's box is float32: near row 100000 its rows are 0.008 apart
    tall = np.random.default_rng(1).random((100_003, 2, 3), dtype=np.float32)
    source = ResizedRows(PixelRows(tall), 2, 70_001)
    want = resize(tall, 2, 70_001)
    for start in (0, 35_000, 69_951):
        got = source.rows(start, start + 50)
        np.testing.assert_allclose(
            got, want[start : start + 50], rtol=0, atol=0 if X86_64 else 2**-23
        )
