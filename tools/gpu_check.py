"""Everything that only a GPU can show, in one command; builds nothing.

    python tools/gpu_check.py [--skip-benchmark] [--json FILE]

Runs the tests marked ``gpu``, those of the kernels under compute-sanitizer where it is found, and
``benchmarks/run.py --device cuda``; then says of each point whether it holds. 0: all do. A point that
could not be looked at counts as one that does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KERNELS = "tests/ops/test_cuda_ops.py"
NARROW = ("relu1_1", "relu2_1", "relu3_1")  # layers of at most 256 channels
PYTEST = (sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider")
SANITIZERS = ("memcheck", "racecheck", "synccheck")
NO_GRAPHS = ("-k", "not captur and not graph")  # which need torch's memory pool


@dataclass(frozen=True)
class Point:
    """A thing that is to hold.

    Attributes:
        name: What.
        holds: Whether it does; None: it could not be looked at.
        found: What was found.
    """

    name: str
    holds: bool | None
    found: str


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tools/gpu_check.py", description=__doc__)
    parser.add_argument("--skip-benchmark", action="store_true", help="tests and sanitizer only")
    parser.add_argument("--json", type=Path, help="results of the benchmark, to be kept")
    chosen = parser.parse_args(arguments)
    points = [
        tests("the kernels against float64", KERNELS),
        tests("engine, recorded iterations, memory, devices", "tests", f"--ignore={KERNELS}"),
        *sanitized(),
    ]
    if not chosen.skip_benchmark:
        with tempfile.TemporaryDirectory() as folder:
            points += benchmark(chosen.json or Path(folder, "results.json"))
    print()
    for point in points:
        mark = {True: "pass", False: "FAIL", None: "????"}[point.holds]
        print(f"{mark}  {point.name}: {point.found}")
    return 0 if all(point.holds for point in points) else 1


def tests(name: str, *where: str) -> Point:
    """The tests of a GPU in some folders."""
    code, last = run((*PYTEST, *where))
    passed = " passed" in last
    return Point(name, code == 0 if passed or code else None, last)


def sanitized() -> list[Point]:
    """The kernels' tests under each of compute-sanitizer's tools.

    Without torch's pool of memory each tensor is an allocation, whose ends the sanitizer knows.
    """
    program = shutil.which("compute-sanitizer")
    points = []
    for tool in SANITIZERS:
        name = f"compute-sanitizer {tool}"
        if program is None:
            points.append(Point(name, None, "compute-sanitizer is not on the path"))
            continue
        options = ("--tool", tool, "--error-exitcode", "1")
        command = (program, *options, *PYTEST, *NO_GRAPHS, KERNELS)
        code, last = run(command, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
        points.append(Point(name, code == 0, last))
    return points


def benchmark(path: Path) -> list[Point]:
    """All suites, and what they are to show."""
    began = time.perf_counter()
    code, last = run((sys.executable, "benchmarks/run.py", "--device", "cuda", "--json", str(path)))
    minutes = (time.perf_counter() - began) / 60
    if code or not path.exists():
        return [Point("the benchmark", False, last)]
    took = Point("all suites in eight minutes", minutes < 8, f"{minutes:.1f} minutes")
    return [took, *judge(json.loads(path.read_text()))]


def judge(document: Mapping[str, Any]) -> list[Point]:
    """What the figures of an H100 are to be, held against those of a benchmark."""
    rows = document["rows"]
    bandwidth = document["environment"].get("ceilings", {}).get("copy_bytes_per_second", 0.0)

    def figures(name: str, **wanted: Any) -> list[float]:
        return [
            row[name]
            for row in rows
            if row.get(name) is not None and all(row.get(k) == v for k, v in wanted.items())
        ]

    ops: dict[str, Any] = {"suite": "ops", "implementation": "native", "size": 512}
    together = figures("speedup", **ops, case="five layers forward+backward")
    traffic = [
        x for layer in NARROW for x in figures("gbps", **ops, case=f"{layer} forward+backward")
    ]
    shares = [1e9 * gbps / bandwidth for gbps in traffic] if bandwidth else []
    recorded: dict[str, Any] = {"suite": "evaluation", "size": 512}
    evaluations = [
        x
        for precision in ("fp32", "bf16")
        for x in figures("speedup", **recorded, implementation=f"native {precision} graph")
    ]
    runs = [
        x
        for precision in ("fp32", "bf16")
        for x in figures(
            "seconds",
            suite="optimiser",
            case="500 evaluations",
            implementation=f"fastnst {precision}",
        )
    ]
    races = [
        row["speedup"]
        for row in rows
        if row["suite"] == "loss" and row["case"].startswith("median") and row["speedup"]
    ]
    return [
        _at_least("ops: five layers, 512 px, against eager (worst type)", together, 4, min, "×"),
        _at_least("ops: share of the copy's bandwidth, C ≤ 256 (worst)", shares, 0.7, min, ""),
        _at_least("evaluation at 512 px (best precision)", evaluations, 8, max, "×"),
        _at_most("500 evaluations with L-BFGS at 512 px (best precision)", runs, 1.0, " s"),
        _at_least("loss: median over the pairs (best way)", races, 20, max, "×"),
    ]


def _at_least(name: str, found: Sequence[float], bound: float, pick: Any, unit: str) -> Point:
    if not found:
        return Point(name, None, "not measured")
    value = pick(found)
    return Point(name, value >= bound, f"{value:.2f}{unit}, wanted {bound:g}{unit} or more")


def _at_most(name: str, found: Sequence[float], bound: float, unit: str) -> Point:
    if not found:
        return Point(name, None, "not measured")
    value = min(found)
    return Point(name, value <= bound, f"{value:.3f}{unit}, wanted {bound:g}{unit} or less")


def run(command: Sequence[str], **environment: str) -> tuple[int, str]:
    """The exit code and the last line that a command printed, which is shown as it comes."""
    print(f"\n$ {' '.join(command)}", flush=True)
    last = ""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip() or last
    return process.returncode, last


if __name__ == "__main__":
    sys.exit(main())
