"""Runs of the benchmark's suites with everything small, and checks of their rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, run
from benchmarks.options import Options
from benchmarks.rows import COLUMNS, Row
from benchmarks.suites import SUITES, Case, Suite

SMALL = ("--quick", "--size", "32", "--threads", "1", "--rounds", "2", "--evaluations", "6")


CEILINGS = {
    "gemm_fp32_flops": 10.0**9,
    "gemm_tf32_flops": 4 * 10.0**9,
    "gemm_bf16_flops": 8 * 10.0**9,
    "copy_bytes_per_second": 10.0**9,
}


def run_suites(tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    path = tmp_path / "results.json"
    run.main([*arguments, *SMALL, "--json", str(path)])
    return checked(path)["rows"]


def checked(path: Path) -> dict[str, Any]:
    """The document, after checking that every row is as promised."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    document: dict[str, Any] = json.loads(path.read_text(), parse_constant=refuse)
    assert {"cpu", "threads", "torch", "native", "instruction_set"} <= document[
        "environment"
    ].keys()
    for row in document["rows"]:
        assert list(row)[: len(COLUMNS)] == list(COLUMNS)
        assert row["suite"] in SUITES
        if row["error"] is None:
            assert row["seconds"] is None or row["seconds"] > 0
            assert row["seconds"] is not None or row["peak_bytes"] > 0
            assert row["runs"] >= 1
        if row["speedup"] is not None:
            assert row["speedup"] == pytest.approx(row["reference_seconds"] / row["seconds"])
    identities = [report.key(row) for row in document["rows"]]
    assert len(set(identities)) == len(identities)
    return document


def good(rows: list[dict[str, Any]], implementation: str) -> list[dict[str, Any]]:
    return [r for r in rows if r["implementation"] == implementation and r["error"] is None]


def suite_of(name: str, measure: Any) -> Suite:
    cases = [Case("first", 32), Case("second", 32)]
    return Suite(name, "A claim.", lambda _: cases, measure)


def row_of(case: Case, options: Options) -> Row:
    return Row(
        "evaluation",
        case.title,
        "x",
        options.device,
        "fp32",
        32,
        1.0,
        0.0,
        1,
        reference_seconds=0.5,
    )
