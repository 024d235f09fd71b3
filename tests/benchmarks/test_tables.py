"""Rows as Markdown."""

from __future__ import annotations

import pytest

from benchmarks import tables


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1234 s"),
        (12.34, "12.3 s"),
        (0.5, "500 ms"),
        (0.00123, "1.23 ms"),
        (2e-8, "0.02 µs"),
    ],
)
def test_seconds_are_short(value: float, text: str) -> None:
    assert tables.seconds(value) == text
