"""The suite ``busy``: its busy processes, what a fair share is, and its rows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.contestants import Contestant
from benchmarks.suites import busy
from benchmarks.suites.busy import Way
from helpers.benchmarks import good, run_suites


@pytest.mark.parametrize(
    ("processors", "threads", "others", "times"),
    [(2, 2, 0, 1), (2, 2, 1, 1.5), (2, 2, 2, 2), (4, 2, 2, 1), (4, 2, 3, 1.25), (2, 4, 4, 2)],
)
def test_a_fair_share(monkeypatch, processors: int, threads: int, others: int, times) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert busy.fair(threads, others) == pytest.approx(times)


def test_busy_processes_end_with_their_context() -> None:
    before = _children()
    with busy.busy(2):
        assert len(_children() - before) == 2
    assert _children() <= before


def test_a_way_finds_its_environment_and_this_process_keeps_its_own(monkeypatch) -> None:
    found = {}

    class Runner:
        def __init__(self, *_: object) -> None:
            found.update(os.environ)

        def wait(self) -> None: ...
        def stop(self) -> None: ...

    monkeypatch.setattr(busy, "Runner", Runner)
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    before = dict(os.environ)
    way = Way(Contestant("x"), {"GOMP_SPINCOUNT": "7"})
    with busy._runner(way, None):  # type: ignore[arg-type]
        assert os.environ == before
    assert found["GOMP_SPINCOUNT"] == "7"
    assert "OMP_WAIT_POLICY" not in found


@pytest.mark.slow
def test_rows(tmp_path: Path) -> None:
    rows = run_suites(tmp_path, "busy", "--skip", "waiting")
    assert [row["error"] for row in rows] == [None] * len(rows)
    (alone, beside, in_turn, at_once) = good(rows, "fastnst")
    assert (alone["busy"], beside["busy"]) == (0, 1)
    assert alone["slowdown"] == 1
    assert beside["slowdown"] == pytest.approx(beside["seconds"] / alone["seconds"])
    assert in_turn["speedup"] == 1
    assert at_once["reference_seconds"] == in_turn["seconds"]
    assert len(good(rows, "reference")) == 2


def _children() -> set[str]:
    """The processes that this one has started and not waited for."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    if not path.exists():
        pytest.skip("no list of children here")
    return set(path.read_text().split())
