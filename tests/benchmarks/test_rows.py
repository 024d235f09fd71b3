"""Rows of results, and the arithmetic between them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.rows import Row, interquartile_range, ratio, summary


@pytest.mark.parametrize(
    ("numerator", "denominator", "expected"),
    [(3.0, 2.0, 1.5), (1.0, 4.0, 0.25), (None, 2.0, None), (3.0, None, None), (3.0, 0.0, None)],
)
def test_ratio(numerator: float | None, denominator: float | None, expected: float | None) -> None:
    assert ratio(numerator, denominator) == expected


def test_median_and_interquartile_range() -> None:
    assert summary([5.0, 1.0, 2.0, 4.0, 30.0]) == {"seconds": 4.0, "seconds_iqr": 3.0, "runs": 5}
    assert summary([1.0, 2.0]) == {"seconds": 1.5, "seconds_iqr": 0.5, "runs": 2}
    assert interquartile_range([7.0]) == 0.0
    with pytest.raises(ValueError, match="no measurements"):
        summary([])


def test_speedup_of_a_row_is_the_ratio_to_its_reference() -> None:
    row = Row("ops", "a", "b", "cpu", "fp32", 32, seconds=2.0, reference_seconds=5.0)
    assert row.to_dict()["speedup"] == 2.5
    assert replace(row, seconds=None, error="no").to_dict()["speedup"] is None


def test_extra_columns_cannot_hide_common_ones() -> None:
    with pytest.raises(ValueError, match="speedup"):
        Row("ops", "a", "b", "cpu", "fp32", 32, extra={"speedup": 9.0}).to_dict()
