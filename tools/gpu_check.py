"""Everything that only a GPU can show, in stages of less than ten minutes each.

    python tools/gpu_check.py [STAGE ...] [--only TEXT] [--out FOLDER] [--again] [--limit SECONDS]
                              [--dry-run]

Stages, in the order in which they are of use; none means all:

    build       the extension has code for this GPU and its driver takes it
    smoke       every kernel of ours once, with a wait after each
    kernels     every kernel alone, against float64, and its share of the memory's bandwidth
    layers      features and gradients, layer by layer, against float64
    plans       13 convolutions, both directions, every way to compute them: right, and how long
    graph       a replayed iteration is the eager one bit for bit, for every control; its launches
    profile     the kernels of one replayed iteration, beside the model of it
    course      500 evaluations: begin, warm-up, recording, replays; the loss, by precision
    sanitize    compute-sanitizer over our kernels by name, on small odd shapes
    nsight      Nsight Compute over the three largest kernels
    onnx        ONNX Runtime's CUDA and TensorRT providers
    tests       the tests marked gpu
    bench       the benchmark's suites

Every point is printed and appended to FOLDER/points.jsonl the moment it is known. A command that
was cut off goes on where it stopped when it is given again; ``--again`` looks at all points anew.
``--dry-run`` runs every stage's logic on the CPU, kernels in the emulator. Needs no network.

0: all points hold. 1: some do not, or could not be looked at. 3: the time was up; go on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 540.0  # seconds: a machine may kill a command at ten minutes


@dataclass(frozen=True)
class Point:
    """A thing that is to hold.

    Attributes:
        holds: Whether it does; None: it could not be looked at.
        found: What was found, in a few words.
        figures: The same as numbers, and whatever else is worth keeping.
    """

    holds: bool | None
    found: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A point that is still to be looked at.

    Attributes:
        name: What, unique in its stage.
        look: Looks at it.
    """

    name: str
    look: Callable[[], Point]


Stage = Callable[[], Iterator[Case]]


class Record:
    """The points that are known, in a file of lines.

    Args:
        path: The file; it is created with its folder.
        machine: Points of another machine do not count as known.
    """

    def __init__(self, path: Path, machine: str) -> None:
        self.path = path
        self.machine = machine
        self.known: dict[tuple[str, str], Point] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue  # cut off in the middle
            if row["machine"] == machine:
                point = Point(row["holds"], row["found"], row["figures"])
                self.known[row["stage"], row["name"]] = point

    def add(self, stage: str, name: str, point: Point, seconds: float) -> None:
        """Write a point at the end of the file, at once."""
        self.known[stage, name] = point
        row = {"machine": self.machine, "stage": stage, "name": name, **asdict(point)}
        with self.path.open("a") as file:
            file.write(json.dumps({**row, "seconds": round(seconds, 3)}) + "\n")
            file.flush()


def look_at(
    stages: dict[str, Stage],
    record: Record,
    *,
    limit: float = LIMIT,
    again: bool = False,
    only: str = "",
) -> int:
    """Look at all points of some stages that are not known yet; the exit code.

    Args:
        stages: By name.
        record: Where points are kept.
        limit: Seconds after which no further point is begun.
        again: Look at points that are known too.
        only: Look at points alone whose name has this in it.
    """
    began = time.monotonic()
    found: list[Point] = []
    for stage, cases in stages.items():
        for case in cases():
            if only not in case.name:
                continue
            known = record.known.get((stage, case.name))
            if known is not None and known.holds is not None and not again:
                found.append(known)
                continue
            if time.monotonic() - began > limit:
                print(f"\nthe time is up at {stage}: {case.name}; give the same command again")
                return 3
            start = time.monotonic()
            point = _look(case)
            record.add(stage, case.name, point, time.monotonic() - start)
            mark = {True: "pass", False: "FAIL", None: "????"}[point.holds]
            print(f"{mark}  {stage}: {case.name}: {point.found}", flush=True)
            found.append(point)
    good = sum(point.holds is True for point in found)
    print(f"\n{good} of {len(found)} points hold; {record.path}")
    return 0 if found and good == len(found) else 1


def _look(case: Case) -> Point:
    try:
        return case.look()
    except Exception as error:  # noqa: BLE001 - the next point is looked at all the same
        text = str(error).strip().splitlines()
        line = f"{type(error).__name__}: {text[0] if text else ''}"
        return Point(False, line[:300], {"trace": traceback.format_exc()[-3000:]})


def main(arguments: Sequence[str] | None = None) -> int:
    for folder in ("tools", "tests", ""):
        path = str(ROOT / folder)
        if path not in sys.path:
            sys.path.insert(0, path)
    import gpu_machine
    import gpu_stages

    parser = argparse.ArgumentParser(
        prog="tools/gpu_check.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=", ".join(gpu_stages.STAGES))
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu-check", help="results")
    parser.add_argument("--again", action="store_true", help="look at known points too")
    parser.add_argument("--only", default="", metavar="TEXT", help="points whose name has it")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for one command")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, in the emulator")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.stages) - set(gpu_stages.STAGES):
        parser.error(f"no such stage: {', '.join(sorted(unknown))}")
    names = [name for name in gpu_stages.STAGES if not chosen.stages or name in chosen.stages]
    ends = time.monotonic() + chosen.limit
    with gpu_machine.where(dry=chosen.dry_run, out=chosen.out, ends=ends) as where:
        stages: dict[str, Stage] = {name: partial(gpu_stages.STAGES[name], where) for name in names}
        record = Record(chosen.out / "points.jsonl", where.machine)
        return look_at(stages, record, limit=chosen.limit, again=chosen.again, only=chosen.only)


if __name__ == "__main__":
    sys.exit(main())
