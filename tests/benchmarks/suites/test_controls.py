"""The suite ``controls``."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.suites import controls
from fastnst.ops import extension
from helpers.benchmarks import checked, good, run_suites


def test_controls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {k: controls.CONTROLS[k] for k in ("the default", "two regions", "wasserstein")}
    monkeypatch.setattr(controls, "CONTROLS", chosen)
    rows = run_suites(tmp_path, "controls", "--skip", "bf16", "--skip", "onnx")
    assert "wasserstein" in report.to_markdown(checked(tmp_path / "results.json"))
    torch_rows = good(rows, "torch fp32")
    assert [r["case"] for r in torch_rows] == list(chosen)
    assert all(r["speedup"] == 1 and r["gradient_error"] < 1e-6 for r in torch_rows)
    if extension.is_available():
        native_rows = good(rows, "native fp32")
        assert [r["case"] for r in native_rows] == list(chosen)
        assert all(r["gradient_error"] < 1e-3 for r in native_rows)
