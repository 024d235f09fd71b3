"""The suite of large pictures: one piece and strips, each in a process of its own."""

from __future__ import annotations

import pytest

from benchmarks.options import Options
from benchmarks.suites import large
from benchmarks.suites.base import Case


@pytest.mark.slow
def test_strips_take_less_memory_than_one_piece(monkeypatch) -> None:
    monkeypatch.setattr(large, "ROWS", (0, 160))
    options = Options(skip=("native",))  # whose filters take more than so small a picture
    whole, strips, mapped, recomputed = large.measure(Case("evaluation", 640), options)
    for row in (whole, strips, mapped, recomputed):
        assert row.error is None
    assert mapped.extra["strips"] == recomputed.extra["strips"] == strips.extra["strips"]
    assert whole.extra["strips"] == 1
    assert strips.extra["strips"] > 1
    assert strips.peak_bytes - strips.extra["baseline_bytes"] < (
        whole.peak_bytes - whole.extra["baseline_bytes"]
    )
