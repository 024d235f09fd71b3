"""The one command that looks at everything on a GPU: what it makes of what it finds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def gpu_check() -> Any:
    path = Path(__file__).parents[2] / "tools" / "gpu_check.py"
    spec = importlib.util.spec_from_file_location("gpu_check", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module
    spec.loader.exec_module(module)
    return module


def row(suite: str, case: str, implementation: str, **figures: Any) -> dict[str, Any]:
    common = {"dtype": "fp32", "size": 512, "seconds": None, "speedup": None}
    return {**common, "suite": suite, "case": case, "implementation": implementation, **figures}


@pytest.fixture
def document() -> dict[str, Any]:
    rows = [
        row("ops", "five layers forward+backward", "native", speedup=4.5),
        row("ops", "five layers forward+backward", "native", speedup=5.0, dtype="bf16"),
        row("ops", "five layers forward+backward", "eager", speedup=1.0),
        row("ops", "relu1_1 forward+backward", "native", gbps=2400.0),
        row("ops", "relu3_1 forward+backward", "native", gbps=2200.0),
        row("ops", "relu4_1 forward+backward", "native", gbps=100.0),
        row("evaluation", "loss and gradient", "native fp32 graph", speedup=6.0),
        row("evaluation", "loss and gradient", "native bf16 graph", speedup=9.0),
        row("evaluation", "loss and gradient", "native bf16 graph", speedup=2.0, size=256),
        row("optimiser", "500 evaluations", "fastnst bf16", seconds=0.8),
        row("optimiser", "500 evaluations", "fastnst fp32", seconds=1.3),
        row("loss", "median of 4", "fastnst", speedup=12.0),
        row("loss", "median of 4", "fastnst preset=fast", speedup=25.0),
        row("loss", "worst of 4", "fastnst preset=fast", speedup=99.0),
    ]
    return {"environment": {"ceilings": {"copy_bytes_per_second": 3e12}}, "rows": rows}


def test_figures_that_are_reached(gpu_check: Any, document: dict[str, Any]) -> None:
    points = gpu_check.judge(document)
    assert [point.holds for point in points] == [True] * 5
    assert [point.found.split(",")[0] for point in points] == [
        "4.50×",
        "0.73",
        "9.00×",
        "0.800 s",
        "25.00×",
    ]


@pytest.mark.parametrize(
    ("index", "figure", "value", "point"),
    [
        (1, "speedup", 3.9, 0),
        (4, "gbps", 2000.0, 1),
        (7, "speedup", 7.9, 2),
        (9, "seconds", 1.01, 3),
        (12, "speedup", 19.0, 4),
    ],
)
def test_a_figure_that_is_not_reached(
    gpu_check: Any, document: dict[str, Any], index: int, figure: str, value: float, point: int
) -> None:
    document["rows"][index][figure] = value
    holds = [p.holds for p in gpu_check.judge(document)]
    assert holds == [k != point for k in range(5)]


def test_what_was_not_measured_does_not_hold(gpu_check: Any) -> None:
    points = gpu_check.judge({"environment": {}, "rows": []})
    assert [p.holds for p in points] == [None] * 5


def test_the_exit_code_is_that_of_the_worst_point(
    gpu_check: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {gpu_check.KERNELS: (0, "5 passed"), "tests": (0, "7 passed, 2 skipped")}
    monkeypatch.setattr(gpu_check, "run", lambda command: answers[command[len(gpu_check.PYTEST)]])
    monkeypatch.setattr(gpu_check.shutil, "which", lambda name: None)
    assert gpu_check.main(["--skip-benchmark"]) == 1  # no sanitizer: not looked at
    monkeypatch.setattr(gpu_check, "SANITIZERS", ())
    assert gpu_check.main(["--skip-benchmark"]) == 0
    assert "pass  the kernels against float64: 5 passed" in capsys.readouterr().out
    answers["tests"] = (0, "9 skipped, 800 deselected")  # no GPU: nothing was looked at
    assert gpu_check.main(["--skip-benchmark"]) == 1
    answers["tests"] = (1, "1 failed, 6 passed")
    assert gpu_check.main(["--skip-benchmark"]) == 1
    assert "FAIL  engine" in capsys.readouterr().out


def test_the_kernels_have_tests_of_their_own(gpu_check: Any) -> None:
    assert (gpu_check.ROOT / gpu_check.KERNELS).is_file()


def test_it_says_what_a_command_said_last(gpu_check: Any) -> None:
    code = "import sys; print('one'); print('two', file=sys.stderr); print(); sys.exit(3)"
    assert gpu_check.run((sys.executable, "-u", "-c", code)) == (3, "two")
