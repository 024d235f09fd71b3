"""The suite ``evaluation``."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import setups
from helpers.benchmarks import good, run_suites


@pytest.mark.slow
def test_evaluation(tmp_path: Path) -> None:
    rows = run_suites(tmp_path, "evaluation")
    (reference,) = good(rows, "reference")
    assert reference["speedup"] == 1
    (ours,) = good(rows, "torch fp32")
    assert ours["gradient_error"] < 1e-4
    assert ours["loss"] == pytest.approx(reference["loss"], rel=1e-5)
    names = {r["implementation"] for r in rows}
    assert names == {"reference"} | {way.name for way in setups.evaluating("cpu")}
