"""The suite ``estimates``: what is said stands beside what is taken, for every control."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.options import Options
from benchmarks.suite import Case
from benchmarks.suites import estimates
from fastnst.ops import extension
from fastnst.run.available import LIBRARIES


def test_what_is_said_and_taken_of_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks: list[Any] = []

    def answer(work: Any, task: Any) -> Any:
        tasks.append(task)
        if task.settings.engine == "torch":
            return "ValueError: no"
        if work is estimates._say:
            return {
                "bytes": 2_200_000_000,
                "seconds": 3.0,
                "pieces": 1 + (task.memory or 0) // 10**9,
            }
        return {"seconds": 4.0, "peak": 3_000_000_000, "own": 2_000_000_000}

    monkeypatch.setattr(estimates, "in_own_process", answer)
    monkeypatch.setattr(estimates.setups, "save_samples", lambda names, _: list(names))
    options = Options(sizes=(512, 1024))
    cases = estimates.cases(options)
    found = [(case.title, case.size) for case in cases]
    assert found[:2] == [("default", 512), ("default", 1024)]
    assert found[2:-1] == [(title, 1024) for title in estimates.CONTROLS]
    assert found[-1] == ("strips", 1024)
    rows = [row for case in cases for row in estimates.measure(case, options)]
    assert len(rows) == 2 * len(cases)
    default, refused, strips = rows[0], rows[1], rows[-2]
    assert default.extra["bytes_ratio"] == pytest.approx(1.1)
    assert default.extra["seconds_ratio"] == 0.75
    assert refused.error == "ValueError: no"
    assert strips.extra["strips"] == 2
    # of what one piece was said to take, and what the process has already
    assert tasks[-3].memory == LIBRARIES + round(estimates.SHARE * 2.2e9)
    both = [task for task in tasks if len(task.files) == 3]
    assert {task.masked for task in both} == {True, False}
    assert all(len(task.settings.style_blend) == 2 for task in both)
    text = estimates.table([row.to_dict() for row in rows]).splitlines()
    assert text[2] == (
        "| default, 512 px | native | 1 | 2.20 GB | 2.00 GB | 1.10× | 3.00 s | 4.00 s | 0.75× |"
    )
    assert "**error**" in text[3]


@pytest.mark.slow
@pytest.mark.skipif(not extension.is_available(), reason="no compiled extension")
def test_a_run_with_masks_is_measured() -> None:
    """In processes of its own; how true an estimate is, is for larger pictures to show."""
    options = Options(threads=1, skip=("torch",))
    (row,) = estimates.measure(Case("regions", 64), options)
    assert row.error is None
    assert 0 < row.extra["own_bytes"] < row.peak_bytes
    assert row.extra["said_seconds"] > 0
