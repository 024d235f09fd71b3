"""The stages of ``gpu_check.py`` that run other programs: sanitizers, tests, the benchmark."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from gpu_check import ROOT, Case, Point

SANITIZERS = ("memcheck", "racecheck", "synccheck", "initcheck")
FOUND = 9  # exit code of compute-sanitizer when it has something to report
REPORT = "SUMMARY"  # in the last line of a report that is complete
OURS = "fastnst::cuda::"  # in the lines of a report that name a kernel of ours
SUITES = ("ops", "evaluation", "optimiser", "loss")
MARGIN = 40.0  # seconds that a command may go on after the limit of gpu_check.py is over


class Where(Protocol):
    """What these stages want to know of the machine."""

    dry: bool
    out: Path
    ends: float


def run(command: Sequence[str], ends: float, **environment: str) -> tuple[int, str]:
    """The exit code and the last line that a command printed; 124 when its time was up."""
    code, lines = run_whole(command, ends, **environment)
    return code, lines[-1] if lines else ""


def run_whole(command: Sequence[str], ends: float, **environment: str) -> tuple[int, list[str]]:
    """The exit code and the lines that a command printed; 124 when its time was up.

    Args:
        command: What to run, in the root of the checkout.
        ends: When the limit of gpu_check.py is over, by ``time.monotonic``.
        environment: Variables beside those of this process.
    """
    seconds = max(0.0, ends - time.monotonic()) + MARGIN
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 124, [f"not done in {seconds:.0f} s: give the same command again"]
    lines = (line.strip() for line in (done.stdout + done.stderr).splitlines())
    return done.returncode, [line for line in lines if line]


# ------------------------------------------------------------------------------------ sanitize --


def our_kernels() -> list[str]:
    """The names of all kernels in csrc/cuda."""
    pattern = re.compile(r"__global__ void __launch_bounds__\([^;{]*?\)\s*(\w+)\(", re.DOTALL)
    return sorted(
        {
            name
            for source in (ROOT / "csrc/cuda").glob("*.cu")
            for name in pattern.findall(source.read_text())
        }
    )


def sanitizer_command(tool: str, out: Path) -> list[str]:
    """compute-sanitizer over the smoke stage, and of all that runs there over our kernels alone.

    initcheck has to see who writes what ours read, so it looks at every kernel.
    """
    only = [f"--kernel-name=kernel_substring={name}" for name in our_kernels()]
    if tool == "initcheck":
        only = []
    options = ["--tool", tool, "--error-exitcode", str(FOUND), "--report-api-errors", "no", *only]
    script = [sys.executable, "tools/gpu_check.py", "smoke", "--again", "--out", str(out)]
    return ["compute-sanitizer", *options, *script]


def sanitize(at: Where) -> Iterator[Case]:
    """Each tool of compute-sanitizer.

    Without torch's pool of memory each tensor is an allocation, whose ends the sanitizer knows;
    and nothing can be recorded, since memory that is given back has to outlive a recording.
    """

    def look(tool: str) -> Point:
        command = sanitizer_command(tool, at.out / "sanitize" / tool)
        if at.dry:
            named = sum(part.startswith("--kernel-name") for part in command)
            found = f"{named} kernels by name"
            return Point((named > 10) != (tool == "initcheck"), found, {"command": command})
        if shutil.which(command[0]) is None:
            return Point(None, "compute-sanitizer is not on the path")
        code, lines = run_whole(command, at.ends, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
        ours = [line for line in lines if OURS in line]  # others' kernels may be as they are
        figures = {"exit": code, "ours": ours[:20]}
        broken = any("Internal Sanitizer Error" in line for line in lines)
        if code == 124 or broken or not any(REPORT in line for line in lines):
            return Point(None, lines[-1] if lines else f"it ended with {code}", figures)
        return Point(not ours and code in (0, FOUND), f"{len(ours)} of ours; {lines[-1]}", figures)

    for tool in SANITIZERS:
        yield Case(tool, partial(look, tool))


# --------------------------------------------------------------------------------------- Nsight --

LARGEST = ("gram_partials", "gram_gradient", "history_products")


def nsight_command(out: Path) -> list[str]:
    """Nsight Compute over the three kernels that are to take the longest, some launches of each."""
    names = "|".join(LARGEST)
    options = ["--set", "full", "--kernel-name", f"regex:{names}", "--launch-skip", "30"]
    options += ["--launch-count", "12", "--force-overwrite", "--export", str(out / "nsight")]
    script = [sys.executable, "tools/gpu_check.py", "profile", "--again", "--out", str(out)]
    return ["ncu", *options, *script]


def nsight(at: Where) -> Iterator[Case]:
    """A report of Nsight Compute to take home."""

    def look() -> Point:
        command = nsight_command(at.out / "nsight")
        if at.dry:
            return Point(True, "not run", {"command": command})
        if shutil.which(command[0]) is None:
            return Point(None, "ncu is not on the path")
        code, end = run(command, at.ends)
        return Point(None if code == 124 else code == 0, end, {"exit": code})

    yield Case("the three largest kernels", look)


# --------------------------------------------------------------------------------------- tests --


def tests(at: Where) -> Iterator[Case]:
    """The tests marked gpu, file by file."""
    marked = [
        path
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "mark.gpu" in path.read_text()
    ]
    for path in marked:
        name = str(path.relative_to(ROOT))
        yield Case(name, partial(_tests, at, name))


def _tests(at: Where, name: str) -> Point:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", name]
    if at.dry:
        return Point(True, "not run", {"command": command})
    code, end = run(command, at.ends)
    passed = " passed" in end
    return Point(None if code == 124 or (code == 0 and not passed) else code == 0, end)


# --------------------------------------------------------------------------------------- bench --


def bench(at: Where) -> Iterator[Case]:
    """The suites one by one into one file, then what an H100 is to show."""
    path = at.out / "benchmark.json"

    def suite(name: str) -> Point:
        command = [sys.executable, "benchmarks/run.py", name, "--device", "cuda", "--size", "512"]
        command += ["--merge", "--json", str(path)]
        if at.dry:
            return Point(True, "not run", {"command": command})
        code, end = run(command, at.ends)
        return Point(None if code == 124 else code == 0, end)

    for name in SUITES:
        yield Case(name, partial(suite, name))
    for title in JUDGED:
        if at.dry:
            yield Case(title, partial(_judged_both_ways, title))
        else:
            yield Case(title, partial(_judged, path, title))


def _judged(path: Path, title: str) -> Point:
    """What the benchmark in a file says of a figure, now that its suites were run."""
    document = json.loads(path.read_text()) if path.exists() else {"rows": []}
    return judge(document, title)


def _judged_both_ways(title: str) -> Point:
    """Whether a figure just above its bound holds and one just below does not."""
    wanted, figure, bound, largest = JUDGED[title]
    answers = [
        judge({"rows": [{**wanted, figure: bound * factor}]}, title).holds for factor in (0.9, 1.1)
    ]
    return Point(answers == ([True, False] if largest else [False, True]), f"{answers}")


# title: rows of the benchmark, figure, bound, whether it is a largest one
JUDGED: dict[str, tuple[dict[str, Any], str, float, bool]] = {
    "five layers' losses and gradients against eager operators": (
        {"suite": "ops", "case": "five layers forward+backward", "implementation": "native"},
        "speedup",
        2.0,
        False,
    ),
    "an evaluation in TF32 against the textbook's in TF32": (
        {"suite": "evaluation", "implementation": "native fp32 graph"},
        "speedup",
        1.5,
        False,
    ),
    "an evaluation in bfloat16 against the textbook's in TF32": (
        {"suite": "evaluation", "implementation": "native bf16 graph"},
        "speedup",
        2.5,
        False,
    ),
    "500 evaluations with L-BFGS in bfloat16, seconds": (
        {"suite": "optimiser", "case": "500 evaluations", "implementation": "fastnst bf16"},
        "seconds",
        1.6,
        True,
    ),
    "500 evaluations with L-BFGS in TF32, seconds": (
        {"suite": "optimiser", "case": "500 evaluations", "implementation": "fastnst fp32"},
        "seconds",
        2.3,
        True,
    ),
}


def judge(document: Mapping[str, Any], title: str) -> Point:
    """Whether a figure of the benchmark is what the model of an H100 says, or better.

    The bounds are the slower ends of docs/gpu.md's model; nothing here was ever measured.
    """
    wanted, figure, bound, largest = JUDGED[title]
    found = [
        row[figure]
        for row in document["rows"]
        if row.get(figure) is not None and all(row.get(k) == v for k, v in wanted.items())
    ]
    if not found:
        return Point(None, "not measured")
    value = min(found) if largest else max(found)
    holds = value <= bound if largest else value >= bound
    side = "at most" if largest else "at least"
    return Point(holds, f"{value:.3g}, {side} {bound:g}", {"value": value, "bound": bound})
