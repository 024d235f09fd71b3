"""Pictures that ranks keep by band: rank 0 writes the file that it would write of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from fastnst.images import encode
from fastnst.ranks import communication
from fastnst.ranks.protocol import Alone
from helpers import ranks_work
from helpers.ranks import on_ranks

FIELDS: dict[str, Any] = {
    "size": 0, "precision": "fp32", "iterations": 2, "content_layers": ("relu1_1",),
    "style_layers": ("relu1_1",),
}  # fmt: skip
SIZE = (40, 300)


@pytest.mark.parametrize(
    ("ranks", "name", "pyramid", "bits", "color"),
    [
        (2, "a.tif", True, 16, "style"),
        (3, "a.tiff", False, 8, "original"),
        (2, "a.png", False, 8, "original"),
    ],
)
def test_the_file_is_that_of_the_whole(
    tmp_path: Path, monkeypatch, ranks: int, name: str, pyramid: bool, bits: int, color: str
) -> None:
    monkeypatch.setattr(communication, "_current", Alone(joined=True))
    monkeypatch.setattr(encode, "TILED", encode.TILED)  # which the work sets
    monkeypatch.setattr("fastnst.images.tiled_tiff._STRIP_BYTES", 12 * 40 * 16)
    fields = {**FIELDS, "color": color}
    one, many = tmp_path / f"one-{name}", tmp_path / f"many-{name}"
    ranks_work.saved_by_band(fields, SIZE, one, pyramid, bits)
    found = on_ranks(ranks, ranks_work.saved_by_band, fields, SIZE, many, pyramid, bits)
    if name == "a.png":
        with Image.open(one) as picture, Image.open(many) as same:
            assert picture.tobytes() == same.tobytes()
    else:
        with tifffile.TiffFile(one) as picture, tifffile.TiffFile(many) as same:
            levels, others = picture.series[0].levels, same.series[0].levels
            assert len(levels) == len(others)
            for level, other in zip(levels, others, strict=True):
                assert np.array_equal(level.asarray(), other.asarray())
            assert same.is_bigtiff
    assert all(size == SIZE for size, _, _ in found)
    assert sum(shape[0] for _, shape, _ in found) == SIZE[1]  # nobody has all of them


def test_rank_0_has_a_few_rows_at_a_time(tmp_path: Path) -> None:
    size = 1200, 300  # rows of which 291 are read at a time
    found = on_ranks(3, ranks_work.saved_by_band, FIELDS, size, tmp_path / "a.tif", False, 8)
    assert 0 < found[0][2] < 300


def test_a_rank_that_is_lost_meanwhile_is_named(tmp_path: Path) -> None:
    said, other = on_ranks(2, ranks_work.lost_while_saving, FIELDS, SIZE, tmp_path / "a.tif")
    assert "rank 1 ended: the cable was pulled" in said
    assert "\n" not in said
    assert str(other) == "the cable was pulled"
    assert not list(tmp_path.iterdir())
