"""The suite ``optimiser``."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import environment, report
from benchmarks.options import Options
from benchmarks.quadratic import Quadratic
from benchmarks.suites import Case, optimiser
from helpers.benchmarks import CEILINGS, good, run_suites


@pytest.mark.slow
def test_optimiser(tmp_path: Path) -> None:
    rows = run_suites(tmp_path, "optimiser")
    assert {r["history"] for r in good(rows, "fastnst")} == {10, 100}
    assert len(good(rows, "torch.optim.LBFGS")) == 2


def test_optimiser_fills_the_history_and_makes_progress() -> None:
    objective = Quadratic((1, 3, 8, 8), "cpu")
    steps = optimiser.TorchSteps(objective, 10)
    first = float(objective(objective.start)[0])
    for _ in range(12):
        assert steps() > 0
    assert len(steps.optimizer.state[steps.image]["old_dirs"]) == 10
    assert float(objective(steps.image.detach())[0]) < first


def test_on_a_gpu_there_is_a_whole_run() -> None:
    on_gpu, on_cpu = Options(device="cuda"), Options()
    assert [c.title for c in optimiser.cases(on_gpu) if c.details is None] == ["500 evaluations"]
    assert all(c.details for c in optimiser.cases(on_cpu))


@pytest.mark.slow
def test_whole_runs_are_timed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, where the same code runs."""
    monkeypatch.setattr(environment, "ceilings", lambda device, quick: CEILINGS)
    options = Options(quick=True, rounds=2, threads=1, skip=("bf16",))
    rows = list(optimiser._runs(Case("4 evaluations", 32), options))
    assert [row.implementation for row in rows] == ["reference", "fastnst fp32"]
    for row in rows:
        assert row.error is None
        assert row.runs == 2
        assert row.extra["evaluations"] == 4
        assert row.extra["floor_seconds"] > 0
    text = report.to_markdown(
        {"environment": environment.describe(options), "rows": [row.to_dict() for row in rows]}
    )
    assert "| floor |" in text


def test_each_step_on_a_device_makes_progress() -> None:
    """On the CPU, where the same code runs."""
    steps = optimiser.DeviceSteps(Quadratic((1, 3, 8, 8), "cpu"), 3)
    losses = []
    for _ in range(6):
        steps()
        losses.append(float(steps.solver.best_loss))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
