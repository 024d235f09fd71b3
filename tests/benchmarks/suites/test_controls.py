"""The suite ``controls``."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import report, setups
from benchmarks.suites import controls
from fastnst.engines.create import unavailable_reason
from fastnst.engines.onnx import providers
from fastnst.ops import extension
from fastnst.ops.buffers import CPU
from helpers.benchmarks import checked, good, run_suites


@pytest.mark.slow
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


@pytest.mark.slow
def test_every_engine_has_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controls, "CONTROLS", {"the default": {}})
    rows = run_suites(tmp_path, "controls")
    ways = list(setups.evaluating("cpu"))
    assert {row["implementation"] for row in rows} == {way.name for way in ways}
    for way in ways:
        if way.precision != "fp32" or not runs(way):
            continue
        (row,) = good(rows, way.name)
        assert row["gradient_error"] < 1e-3, way.name
    assert good(rows, "torch bf16")


def runs(way: setups.Way) -> bool:
    """Whether an engine and its provider are there."""
    if way.engine == "onnx":
        return providers.unavailable_reason(way.provider, CPU) is None
    return unavailable_reason(way.engine, CPU) is None
