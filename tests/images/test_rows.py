"""Pictures by rows: what is read is what is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from fastnst import fingerprint
from fastnst.errors import InvalidInput
from fastnst.images import rows
from fastnst.images.pixels import to_pixels
from fastnst.images.rows import (
    BandedRows,
    PixelRows,
    StoredRows,
    TensorRows,
    extremes,
    fill,
    strips,
)
from fastnst.strips.geometry import Spacing, spans
from fastnst.strips.storage import BandedTensor, MemoryStore, ScratchStore
from helpers.pictures import smooth

PIXELS = smooth(41, 103).astype(np.float32) / 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(tmp_path: Path, orientation: int) -> None:
    values = smooth(41, 30)
    image = Image.fromarray(values)
    image.getexif()[0x0112] = orientation
    want = np.asarray(ImageOps.exif_transpose(image), np.float32) / 255
    with ScratchStore(tmp_path) as store:
        stored = store.zeros(values.shape, torch.uint8)
        stored.copy_(torch.from_numpy(values.copy()))
        source = StoredRows(stored, store, orientation, 255)
        assert (source.height, source.width) == want.shape[:2]
        got = np.concatenate([source.rows(0, 7), source.rows(7, source.height)])
        assert np.array_equal(got, want)


def test_a_picture_fills_bands_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "STRIP_BYTES", 12 * 41 * 10)
    source = PixelRows(PIXELS)
    assert list(strips(source))[-1] == (100, 103)
    stored = BandedTensor(MemoryStore(), spans(103, 32, Spacing(16, 16)), (1, 3), 41)
    fill(stored, source)
    assert np.array_equal(stored.whole()[0].permute(1, 2, 0).numpy(), PIXELS)
    assert np.array_equal(BandedRows(stored).rows(20, 77), PIXELS[20:77])
    with pytest.raises(ValueError, match="41×100 does not fill 41×103"):
        fill(stored, PixelRows(PIXELS[:100]))


def test_rows_of_bands_are_clipped() -> None:
    stored = BandedTensor(MemoryStore(), spans(2, 2, Spacing(1, 1)), (1, 3), 2)
    stored.band(0)[0, 0] = torch.tensor([[-1.0, 2.0], [0.5, 1.0]])
    assert BandedRows(stored).rows(0, 2)[..., 0].tolist() == [[0, 1], [0.5, 1]]
    assert stored.band(0)[0, 0, 0, 0] == -1  # what is stored is left as it is


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    store = MemoryStore()
    values = store.zeros((70, 5, 3))
    values[:] = torch.rand(70, 5, 3)
    values[3, 2, 1] = 2.5
    assert extremes(values, store) == (float(values.min()), 2.5)
    values[69, 4, 2] = value
    with pytest.raises(InvalidInput, match="^holds NaN or infinity"):
        extremes(values, store)


def test_the_digest_by_rows_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = smooth(41, 57).astype(np.float32) / 255
    monkeypatch.setattr(rows, "STRIP_BYTES", 4000)
    assert rows.digest(PixelRows(pixels)) == fingerprint.digest(torch.from_numpy(pixels))
    assert rows.digest(PixelRows(pixels)) != rows.digest(PixelRows(pixels[:, ::-1].copy()))


def test_rows_of_a_tensor_are_clipped() -> None:
    image = torch.linspace(-0.5, 1.5, 90, device="cpu").reshape(1, 3, 6, 5)
    source = TensorRows(image)
    assert (source.height, source.width) == (6, 5)
    assert np.array_equal(source.rows(1, 4), to_pixels(image)[1:4])


def test_stored_values_beyond_black_and_white_are_clipped() -> None:
    store = MemoryStore()
    stored = store.zeros((1, 3, 3))
    stored[0, :, 0] = torch.tensor([-1.0, 1.0, 5.0])
    assert StoredRows(stored, store, 1, 4.0).rows(0, 1)[0, :, 0].tolist() == [0, 0.25, 1]
