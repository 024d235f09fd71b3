"""The suite ``precision``."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report, setups
from helpers.benchmarks import checked, good, run_suites


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
