"""The command: what it writes, merges and refuses."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks import environment, report, run
from benchmarks.options import Options
from benchmarks.rows import Row
from benchmarks.run import merge, write_json
from benchmarks.suites import Case
from helpers.benchmarks import checked, row_of, suite_of


def test_interrupted_run_writes_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(case: Case, options: Options) -> Iterator[Row]:
        yield row_of(case, options)
        if case.title == "second":
            raise KeyboardInterrupt

    monkeypatch.setitem(run.SUITES, "evaluation", suite_of("evaluation", measure))
    path = tmp_path / "results.json"
    assert run.main(["evaluation", "memory", "--json", str(path)]) == 130
    document = checked(path)
    assert [r["case"] for r in document["rows"]] == ["first", "second"]
    assert document["environment"]["interrupted"] is True


def test_failing_case_is_a_row_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(case: Case, options: Options) -> Iterator[Row]:
        if case.title == "first":
            raise MemoryError("too large")
        yield row_of(case, options)

    monkeypatch.setitem(run.SUITES, "evaluation", suite_of("evaluation", measure))
    path = tmp_path / "results.json"
    assert run.main(["evaluation", "--json", str(path)]) == 0
    first, second = checked(path)["rows"]
    assert (first["case"], first["error"]) == ("first", "MemoryError: too large")
    assert second["error"] is None


def test_nothing_measured_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(case: Case, options: Options) -> Iterator[Row]:
        raise RuntimeError("never")
        yield

    monkeypatch.setitem(run.SUITES, "evaluation", suite_of("evaluation", measure))
    assert run.main(["evaluation", "--json", str(tmp_path / "results.json")]) == 1


def test_merge_replaces_the_suites_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(case: Case, options: Options) -> Iterator[Row]:
        yield row_of(case, options)

    monkeypatch.setitem(run.SUITES, "evaluation", suite_of("evaluation", measure))
    path = tmp_path / "results.json"
    old = Row("ops", "a", "eager", "cpu", "fp32", 32, 1.0, 0.0, 1).to_dict()
    stale = Row("evaluation", "stale", "x", "cpu", "fp32", 32, 1.0, 0.0, 1).to_dict()
    run.write_json({"environment": {"ceilings": 1}, "rows": [old, stale]}, path)
    assert run.main(["evaluation", "--json", str(path), "--merge"]) == 0
    document = checked(path)
    assert [r["case"] for r in document["rows"]] == ["a", "first", "second"]
    assert document["environment"]["ceilings"] == 1


def test_unknown_suite_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.main(["speed"])
    assert "no suite named 'speed'" in capsys.readouterr().err


def test_results_of_a_gpu_are_kept_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(case: Case, options: Options) -> Iterator[Row]:
        yield row_of(case, options)

    monkeypatch.setitem(run.SUITES, "evaluation", suite_of("evaluation", measure))
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    here = environment.describe(Options())  # before: it asks a card that is not there
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gpu = {**here, "machine": "NVIDIA H100 80GB"}
    monkeypatch.setattr(environment, "describe", lambda options: dict(gpu))
    path = tmp_path / "nvidia-h100-80gb.json"
    old = Row("ops", "a", "eager", "cuda", "fp32", 32, 1.0, 0.0, 1).to_dict()
    run.write_json({"environment": {}, "rows": [old]}, path)
    assert run.main(["evaluation", "--device", "cuda", "--quick"]) == 0
    assert len(report.load(path)["rows"]) == 1
    assert run.main(["evaluation", "--device", "cuda"]) == 0
    assert [r["suite"] for r in report.load(path)["rows"]] == ["ops", *["evaluation"] * 2]


def test_the_real_readme_has_a_place_for_the_tables() -> None:
    assert report.MARK in run.README.read_text()


@pytest.mark.parametrize("becomes", [None, RuntimeError])
def test_an_interruption_that_a_library_has_lost_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes: type[Exception] | None
) -> None:
    """As one that is raised in a destructor, or that C++ makes another exception of."""

    def measure(case: Case, options: Options) -> Iterator[Row]:
        yield row_of(case, options)
        try:
            run._interrupt(signal.SIGINT, None)
        except KeyboardInterrupt as error:
            if becomes is not None:
                raise becomes("lost") from error

    monkeypatch.setattr(run, "_interrupted", -math.inf)
    monkeypatch.setitem(run.SUITES, "evaluation", suite_of("evaluation", measure))
    path = tmp_path / "results.json"
    assert run.main(["evaluation", "--json", str(path)]) == 130
    found = checked(path)
    assert found["environment"]["unfinished"] == ["evaluation"]
    assert len(found["rows"]) == 1  # of two cases


def test_two_signals_at_once_are_one_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_interrupted", -math.inf)
    with pytest.raises(KeyboardInterrupt):
        run._interrupt(signal.SIGTERM, None)
    run._interrupt(signal.SIGTERM, None)
    monkeypatch.setattr(run, "_interrupted", run._interrupted - run.TOGETHER)
    with pytest.raises(KeyboardInterrupt):  # later
        run._interrupt(signal.SIGINT, None)


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_in_the_background_that_is_ended_writes_what_was_measured(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Started with Ctrl-C ignored, as a shell starts what ends with &."""
    path = tmp_path / "results.json"
    command = [sys.executable, "benchmarks/run.py", "evaluation", "--quick", "--json", str(path)]
    command = ["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command]
    process = subprocess.Popen(
        command,
        cwd=Path(run.__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert "evaluation" in process.stderr.readline()  # it measures
    process.send_signal(number)
    assert process.wait(60) == 130
    process.stderr.close()
    assert checked(path)["environment"]["interrupted"] is True


def _document(unfinished: list[str], *suites: str) -> dict:
    rows = [{"suite": suite, "case": str(k)} for k, suite in enumerate(suites)]
    about = {"interrupted": bool(unfinished), "unfinished": unfinished}
    return {"environment": {"machine": "m", **about}, "rows": rows}


def test_a_suite_that_was_cut_short_replaces_none() -> None:
    old = _document([], "ops", "ops", "loss", "loss")
    for name, count in (("loss", 2), ("ops", 2)):
        found = merge(old, _document([name], name))
        assert [row["suite"] for row in found["rows"]].count(name) == count
        assert not found["environment"]["interrupted"]
    found = merge(old, _document(["memory"], "memory"))
    assert found["environment"]["unfinished"] == ["memory"]
    found = merge(found, _document([], "ops"))  # which says nothing of memory
    assert found["environment"]["interrupted"]
    found = merge(found, _document([], "memory", "memory"))
    assert not found["environment"]["interrupted"]
    assert [row["suite"] for row in found["rows"]].count("memory") == 2


def test_numbers_that_json_has_not_are_null(tmp_path: Path) -> None:
    write_json({"a": [1.5, float("inf"), {"b": float("nan")}]}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1.5, None, {"b": None}]}
