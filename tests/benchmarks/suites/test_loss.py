"""The suite ``loss``: the search for the first picture at the target, and its rows."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.contestants import Contestant, Point
from benchmarks.rows import Row
from benchmarks.suites import loss
from helpers.benchmarks import good, run_suites


def _points(count: int, keep_every: int = 1) -> list[Point]:
    """Two seconds an evaluation."""
    return [Point(n, 2.0 * n, math.nan, n % keep_every == 0) for n in range(1, count + 1)]


def _search(target: float, scored: list[int]) -> loss.Search:
    def score(evaluation: int) -> float:  # 100 / n, but for one jump
        scored.append(evaluation)
        return 1e6 if evaluation == 20 else 100 / evaluation

    return loss.Search(score, target)


@pytest.mark.parametrize("target", [100.0, 20.0, 10.0, 100 / 33, 1.0])
def test_time_to_loss_is_that_of_the_first_picture_at_the_target(target: float) -> None:
    search = _search(target, [])
    assert search.look(_points(120))
    first = math.ceil(100 / target - 1e-9)
    assert search.reached == Point(first, 2.0 * first, pytest.approx(math.nan, nan_ok=True), True)
    assert search.loss == pytest.approx(100 / first)
    assert search.curve[-1] == [2.0 * first, pytest.approx(100 / first)]


def test_time_to_loss_goes_on_where_it_stopped() -> None:
    scored: list[int] = []
    search = _search(3.0, scored)
    points = _points(60)
    assert not search.look(points[:20])
    assert not search.look(points[:30])
    assert scored == [1, 10, 20, 30]
    assert search.look(points)
    assert search.reached is not None
    assert search.reached.evaluation == 34
    assert scored == [1, 10, 20, 30, 40, 31, 32, 33, 34]


def test_time_to_loss_uses_kept_pictures_only() -> None:
    search = _search(3.0, [])
    assert search.look(_points(120, keep_every=4))
    assert search.reached is not None
    assert search.reached.evaluation == 36  # the first multiple of 4 from 34


def test_time_to_loss_that_is_never_reached() -> None:
    search = _search(1e-9, [])
    assert not search.look(_points(25))
    assert search.reached is None
    assert search.curve == [[2.0, 100.0], [20.0, 10.0], [40.0, 1e6], [50.0, 4.0]]  # the last, too


def test_medians_and_worst_case_over_pairs() -> None:
    def row(case: str, seconds: float | None, reference: float) -> Row:
        error = None if seconds else "not there"
        return Row(
            *("loss", case, "fastnst", "cpu", "fp32", 32),
            seconds=seconds,
            reference_seconds=reference,
            error=error,
        )

    rows = [row("a", 2.0, 8.0), row("b", 4.0, 6.0), row("c", 3.0, 9.0), row("d", None, 5.0)]
    middle, worst = loss.summarise(rows)
    assert (middle.case, middle.seconds, middle.reference_seconds) == ("median of 3", 3.0, 8.0)
    assert (worst.case, worst.speedup, worst.extra["worst_case"]) == ("worst of 4", 1.5, "b")
    assert worst.error == "1 of 4 did not get there"


@pytest.mark.slow
def test_loss(tmp_path: Path) -> None:
    rows = run_suites(
        tmp_path,
        "loss",
        "--pairs",
        "1",
        "--skip",
        "engine=",
        "--skip",
        "matched",
    )
    (reference,) = good(rows, "reference")
    assert reference["speedup"] == 1
    assert reference["target"] == min(value for _, value in reference["curve"])
    content = next(r for r in rows if r["implementation"] == "fastnst init=content")
    assert content["error"] is None
    assert content["loss"] <= content["target"]
    assert content["seconds"] == content["curve"][-1][0]
    (fast,) = [r for r in rows if r["implementation"] == "fastnst preset=fast"]
    assert fast["curve"]  # whether or not it gets there so early


@pytest.mark.slow
def test_loss_of_contestants_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = tmp_path / "magenta.png"
    Image.new("RGB", (32, 32), (255, 0, 255)).save(picture)
    stuck = {"init": str(picture), "content_weight": 0.0, "style_weight": 0.0, "tv_weight": 1.0}
    broken = {"init": str(tmp_path / "missing.png")}
    field = (Contestant("stuck", settings=stuck), Contestant("broken", settings=broken))
    monkeypatch.setattr(loss, "contestants", lambda *_: field)
    rows = {r["implementation"]: r for r in run_suites(tmp_path, "loss", "--pairs", "1")}
    assert re.fullmatch(r"not at [\d.]+ after 9 evaluations", rows["stuck"]["error"])
    assert rows["stuck"]["loss"] > rows["stuck"]["target"]
    assert "does not exist" in rows["broken"]["error"]
    assert rows["stuck"]["seconds"] is rows["broken"]["seconds"] is None


def test_contestants_name_every_engine_once() -> None:
    names = [c.name for c in loss.contestants(("torch", "fp32"), "cpu")]
    assert len(set(names)) == len(names)
    assert "fastnst engine=torch precision=fp32" not in names
    assert {"fastnst", "fastnst init=matched"} <= set(names)
