"""How large pieces may be: what fits is not cut, what is cut fits, and what cannot be says so."""

from __future__ import annotations

import pytest

from fastnst.errors import InvalidInput
from fastnst.strips.budget import band_rows, choose_grid, read_bytes
from fastnst.strips.geometry import Spacing, spans

PAPER = Spacing(96, 96)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8_000_000_000),
        ("512 mb", 512_000_000),
        ("1.5GiB", 1_610_612_736),
        (".5k", 500),
        ("8000", 8000),
        ("3G", 3_000_000_000),
        ("7 b", 7),
    ],
)
def test_bytes_as_people_write_them(text: str, size: int) -> None:
    assert read_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "8XB", "8 G B", "0", "nan", "8iB", "1e9"])
def test_what_is_no_number_of_bytes(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"--memory is"):
        read_bytes(text, "--memory")


@pytest.mark.parametrize("spacing", [PAPER, Spacing(16, 80)])  # a rest may make pieces shorter
@pytest.mark.parametrize("height", [200, 401, 1000, 5003])
def test_bands_are_the_tallest_that_fit(height: int, spacing: Spacing) -> None:
    for budget in range(0, 6000, 50):
        rows = band_rows(height, 1, budget, spacing, fixed=100)
        fitting = [
            size
            for size in [height, *range(spacing.smallest, height, spacing.alignment)]
            if max(s.computed_length for s in spans(height, size, spacing)) + 100 <= budget
        ]
        if rows is None:
            assert not fitting
        elif height in fitting:
            assert rows == height
        else:
            assert rows == max(fitting)


def test_a_picture_that_fits_is_one_piece() -> None:
    assert choose_grid(301, 203, 10, 301 * 203 * 10, PAPER).is_whole


def test_a_grid_fits_its_budget() -> None:
    kinds = set()
    for budget in (1e6, 2e6, 5e6, 2e7, 1e8):
        grid = choose_grid(5003, 7001, 1, budget, PAPER)
        rows, columns = grid.largest
        assert rows * columns <= budget
        kinds.add("tiles" if len(grid.columns) > 1 else "bands" if len(grid) > 1 else "whole")
    assert kinds == {"whole", "bands", "tiles"}


def test_tiles_where_bands_would_be_mostly_halo() -> None:
    """Of 8192 columns a few million pixels are 300 rows of their own and 200 of halo."""
    grid = choose_grid(6144, 8192, 1, 8192 * 600, PAPER)
    assert len(grid.columns) > 1
    bands = choose_grid(6144, 8192, 1, 8192 * 600, Spacing(96, 96)).height // 384
    assert grid.computed_pixels < 0.9 * 8192 * (6144 + (bands - 1) * 2 * 96)
    assert len(choose_grid(6144, 8192, 1, 8192 * 3000, PAPER).columns) == 1


def test_too_little_memory_says_what_the_smallest_piece_takes() -> None:
    with pytest.raises(
        InvalidInput, match=r"smallest piece of a picture of 7001×5003 takes 0\.15 GB"
    ):
        choose_grid(5003, 7001, 1000, 1e8, PAPER)
    # what the message names is enough
    choose_grid(5003, 7001, 1000, 1000 * 384 * 384, PAPER)


def test_more_than_any_memory_is_a_number_too() -> None:
    assert read_bytes("9" * 400) == read_bytes("9" * 30 + "TB") > 10**18
