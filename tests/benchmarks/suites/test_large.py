"""The suite of large pictures: one piece and strips, each in a process of its own."""

from __future__ import annotations

import pytest

from benchmarks.options import Options
from benchmarks.suites import large
from benchmarks.suites.base import Case
from fastnst.ops import extension


@pytest.mark.slow
@pytest.mark.skipif(not extension.is_available(), reason="no compiled extension")
def test_every_way_has_its_row(monkeypatch) -> None:
    """What each takes is held to its estimate by tests/run/test_footprint.py."""
    monkeypatch.setattr(large, "ROWS", (0, 192))
    options = Options(skip=("torch",))  # which takes ten times as long
    whole, strips, mapped, recomputed = large.measure(Case("evaluation", 448), options)
    for row in (whole, strips, mapped, recomputed):
        assert row.error is None
        assert row.seconds > 0
        assert row.peak_bytes > row.extra["baseline_bytes"]
    assert whole.extra["strips"] == 1
    assert strips.extra["strips"] > 1
    assert mapped.extra["strips"] == recomputed.extra["strips"] == strips.extra["strips"]
    assert len({row.case for row in (whole, strips, mapped, recomputed)}) == 4
