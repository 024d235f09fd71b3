"""The suite ``precision``."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report, setups
from benchmarks.rows import Row
from benchmarks.suites import precision
from helpers.benchmarks import checked, good, run_suites


def test_the_median_of_several_runs_has_its_line() -> None:
    rows = [
        Row(
            *("precision", f"harbour + swirl, seed {seed}", "native mixed", "cpu", "mixed", 128),
            seconds=seconds,
            runs=1,
            reference_seconds=2.0,
            extra={"loss": loss, "loss_ratio": loss},
        )
        for seed, (seconds, loss) in enumerate([(1.0, 0.9), (2.0, 1.0), (3.0, 1.3)])
    ]
    (summed,) = precision.summarise(rows)
    assert (summed.seconds, summed.seconds_iqr, summed.runs) == (2.0, 1.0, 3)
    assert summed.extra == {"loss_ratio": 1.0}
    assert "2.00 s ± 50 %" in precision.SUITE.table([summed.to_dict()])


@pytest.mark.slow
def test_precision(tmp_path: Path) -> None:
    rows = run_suites(tmp_path, "precision", "--skip", "onnx")
    assert "over plain PyTorch's" in report.to_markdown(checked(tmp_path / "results.json"))
    ways = {way.name for way in setups.engines("cpu", mixed=True) if way.engine != "onnx"}
    assert {row["implementation"] for row in rows} == ways
    baseline = good(rows, "torch fp32")[0]
    for name in ("torch fp32", "torch mixed"):
        single, summed = good(rows, name)
        assert summed["case"] == "median of 1"
        assert single["loss_ratio"] == summed["loss_ratio"]
        assert single["loss_ratio"] == pytest.approx(single["loss"] / baseline["loss"])
        assert 0.5 < single["loss_ratio"] < 2  # in the steepest part of the way
    assert single["loss_ratio"] != 1
