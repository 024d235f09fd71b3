"""The suite of large pictures: one piece and strips, each in a process of its own."""

from __future__ import annotations

import pytest

from benchmarks.options import Options
from benchmarks.suite import Case
from benchmarks.suites import large
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


def test_tiles_of_one_size_stand_for_what_does_not_grow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = {"seconds": 2.0, "peak": 10**9, "baseline": 10**8, "strips": 9, "per_pixel": 44}
    monkeypatch.setattr(large, "in_own_process", lambda work, task: answer)
    titles = [(case.title, case.size) for case in large.cases(Options())]
    assert titles[2:] == [(large.TILES, 2016), (large.TILES, 4032), (large.TILES, 8064)]
    (case,) = large.cases(Options(sizes=(8064,)))
    (row,) = large.measure(case, Options())
    assert row.extra["beyond_bytes"] == 9 * 10**8 - 44 * 8064**2
    assert "1,000,000,000" in large.SUITE.table([row.to_dict()])
    assert [case.title for case in large.cases(Options(quick=True))] == ["evaluation"]
