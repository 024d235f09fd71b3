"""Colour steps by rows against those of whole pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fastnst.images import colour, rows
from fastnst.images.colour_rows import (
    GreyRows,
    HistogramMatchedRows,
    MatchedRows,
    RecolouredRows,
    moments,
)
from fastnst.images.pixels import Pixels, to_pixels, to_tensor
from fastnst.images.rows import PixelRows, RowSource
from fastnst.strips.storage import MemoryStore, ScratchStore
from helpers.pictures import smooth

# A unit in the last place of a float32 near 1: two float64 values that differ by rounding may fall
# on either side of the middle between two float32 values.
ULP = 2**-24


@pytest.fixture(autouse=True)
def small_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "STRIP_BYTES", 12 * 100 * 9)


def _pixels(width: int, height: int, seed: int) -> Pixels:
    noise = np.random.default_rng(seed).normal(0, 0.03, (height, width, 3))
    values: Pixels = (smooth(width, height, seed) / 255 + noise).clip(0, 1).astype(np.float32)
    return values


A, B, C = _pixels(83, 61, 1), _pixels(40, 77, 2), _pixels(51, 30, 3)


def _all(source: RowSource) -> Pixels:
    parts = [source.rows(a, min(a + 13, source.height)) for a in range(0, source.height, 13)]
    return np.concatenate(parts)


@pytest.mark.parametrize("pixels", [A, np.full((9, 7, 3), 0.3, np.float32)])
def test_moments(pixels: Pixels) -> None:
    for got, want in zip(
        moments(PixelRows(pixels)), colour.moments(to_tensor(pixels)), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-14)  # float64, values below 1


@pytest.mark.parametrize("weights", [None, [0.25, 0.75]])
def test_matched_colours(weights: list[float] | None) -> None:
    got = _all(MatchedRows(PixelRows(A), [PixelRows(B), PixelRows(C)], weights))
    want = to_pixels(colour.match_colours(to_tensor(A), [to_tensor(B), to_tensor(C)], weights))
    np.testing.assert_allclose(got, want, rtol=0, atol=ULP)


@pytest.mark.parametrize("scratch", [False, True])
def test_matched_histogram(tmp_path: Path, scratch: bool) -> None:
    with ScratchStore(tmp_path) if scratch else MemoryStore() as store:
        got = _all(HistogramMatchedRows(PixelRows(A), PixelRows(B), store))
    want = to_pixels(colour.match_histogram(to_tensor(A), to_tensor(B)))
    # Between two quantiles that nearly coincide the map is steep, so the rounding of the rotations
    # grows from one to the next.
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_matched_histogram_of_a_picture_with_flat_parts() -> None:
    flat = A.copy()
    flat[10:40] = 0.5
    store = MemoryStore()
    got = _all(HistogramMatchedRows(PixelRows(flat), PixelRows(B), store))
    want = to_pixels(colour.match_histogram(to_tensor(flat), to_tensor(B)))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_colours_of_another_picture() -> None:
    other = _pixels(83, 61, 5)
    got = _all(RecolouredRows(PixelRows(A), PixelRows(other)))
    want = to_pixels(colour.with_colours_of(to_tensor(A), to_tensor(other)))
    np.testing.assert_allclose(got, want, rtol=0, atol=2 * ULP)  # three float32 additions


def test_grey() -> None:
    got = _all(GreyRows(PixelRows(A)))
    np.testing.assert_allclose(got, to_pixels(colour.grey(to_tensor(A))), rtol=0, atol=2 * ULP)
    got = _all(GreyRows(PixelRows(A), like=PixelRows(B)))
    want = to_pixels(colour.grey(to_tensor(A).double(), like=to_tensor(B).double()))
    np.testing.assert_allclose(got, want, rtol=0, atol=4 * ULP)
    for value, size in ((0.25, (5, 4)), (0.1, (7, 9))):  # the second's variance is rounded below 0
        flat = np.full((*size, 3), value, np.float32)
        got = _all(GreyRows(PixelRows(flat), like=PixelRows(B)))
        assert np.isfinite(got).all()
