"""The benchmark: ``python benchmarks/run.py [SUITE ...] [options]``; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

if __package__ in (None, ""):  # run as a file, also in the processes that it starts
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import environment, report
from benchmarks.options import PAIRS, Options
from benchmarks.progress import Progress
from benchmarks.rows import Row, one_line
from benchmarks.suites import SUITES, Suite

RESULTS = Path(__file__).with_name("results")
README = Path(__file__).with_name("README.md")
TOGETHER = 1.0  # seconds: ``timeout`` and its like send a signal to the group and to the process
_interrupted = -math.inf  # when the last signal came, by ``time.monotonic``


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suites asked for. 0: done; 1: nothing could be measured; 130: interrupted."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    for name in chosen.suites:
        if name not in SUITES:
            parser.error(f"no suite named {name!r}: choose from {', '.join(SUITES)}")
    if chosen.compare:
        return report.print_comparison(*map(report.load, chosen.compare))
    if chosen.readme:
        report.fill_readme(README, sorted(RESULTS.glob("*.json")))
        return 0
    if chosen.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here")
    torch.set_num_threads(chosen.threads)
    options = Options(
        device=chosen.device,
        sizes=tuple(chosen.size),
        threads=chosen.threads,
        quick=chosen.quick,
        pairs=chosen.pairs,
        own_pairs=tuple((content, style) for content, style in chosen.pair),
        seeds=chosen.seeds,
        evaluations=chosen.evaluations,
        rounds=chosen.rounds,
        skip=tuple(chosen.skip),
        cache=chosen.cache,
        folder=chosen.pictures,
    )
    everything = [name for name, suite in SUITES.items() if not suite.on_request]
    suites = [SUITES[name] for name in dict.fromkeys(chosen.suites or everything)]
    document, interrupted = collect(suites, options, Progress())
    path = chosen.json
    by_default = options.device == "cuda" and not (path or chosen.quick or chosen.report)
    if chosen.save or by_default:
        path = RESULTS / f"{environment.slug(document['environment']['machine'])}.json"
    if path is not None and (document["rows"] or not path.exists()):
        if (chosen.merge or by_default) and path.exists():
            document = merge(report.load(path), document)
        write_json(document, path)
    if chosen.report is not None:
        report.write(document, chosen.report)
    if path is None and chosen.report is None:
        print(report.to_markdown(document))
    if interrupted:
        return 130
    return 0 if any(row["error"] is None for row in document["rows"]) else 1


def collect(
    suites: Sequence[Suite], options: Options, progress: Progress | None = None
) -> tuple[dict[str, Any], bool]:
    """Run suites one after the other.

    Returns:
        The document, and whether Ctrl-C ended it early; it has what was measured until then.
    """
    progress = progress or Progress(silent=True)
    rows: list[Row] = []
    machine = environment.describe(options)
    document = {"environment": machine, "rows": rows}
    unfinished: list[str] = []
    try:
        with progress:
            if any(suite.name == "ops" for suite in suites):
                progress.say("measuring the machine's matrix product and copy")
                machine["ceilings"] = environment.ceilings(options.device, options.quick)
            for suite in suites:
                unfinished = [suite.name]
                _run_suite(suite, options, rows.append, progress)
            unfinished = []
    except KeyboardInterrupt:
        interrupted = True
    else:
        interrupted = False
    machine["interrupted"], machine["unfinished"] = interrupted, unfinished
    machine["seconds"] = progress.seconds
    return {**document, "rows": [row.to_dict() for row in rows]}, interrupted


def _run_suite(
    suite: Suite,
    options: Options,
    keep: Callable[[Row], None],
    progress: Progress,
) -> None:
    mine: list[Row] = []

    def add(row: Row) -> None:
        mine.append(row)
        keep(row)

    cases = suite.cases(options)
    progress.begin(suite.name, len(cases))
    try:
        for case in cases:
            progress.say(f"{case.title}, {case.dtype}, {case.size} px")
            try:
                for row in suite.measure(case, options):
                    add(row)
            except Exception as error:  # noqa: BLE001 - becomes the error of a row
                _stop_if_interrupted()
                add(
                    Row(
                        suite.name,
                        case.title,
                        suite.name,
                        options.device,
                        case.dtype,
                        case.size,
                        error=one_line(error),
                    )
                )
            _stop_if_interrupted()
            progress.advance()
    finally:  # also of what an interrupted suite has
        for row in suite.summarise(mine) if suite.summarise else ():
            keep(row)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C, and a wish to end: what was measured is written.

    The exception can be lost in a library that calls Python and drops or replaces what it raises,
    such as a destructor; then the case goes on to its end, and no further one is begun. What comes
    within ``TOGETHER`` of another signal is the same wish: it does not end what is being written.
    """
    global _interrupted
    before, _interrupted = _interrupted, time.monotonic()
    if _interrupted - before > TOGETHER:
        signal.default_int_handler(number, frame)


def _stop_if_interrupted() -> None:
    """Raise ``KeyboardInterrupt`` if a signal has come, whatever became of its own."""
    if _interrupted > -math.inf:
        raise KeyboardInterrupt


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The old document with the suites of the new one in place of its own.

    A suite that Ctrl-C has cut short replaces none that was there.
    """
    there = {row["suite"] for row in old["rows"]}
    cut_short = set(new["environment"].get("unfinished", ()))
    rows = [row for row in new["rows"] if row["suite"] not in cut_short & there]
    suites = {row["suite"] for row in rows}
    kept = [row for row in old["rows"] if row["suite"] not in suites]
    unfinished = {*old["environment"].get("unfinished", ())} - suites | (cut_short - there)
    about = {"interrupted": bool(unfinished), "unfinished": sorted(unfinished)}
    return {
        "environment": {**old["environment"], **new["environment"], **about},
        "rows": sorted([*kept, *rows], key=lambda row: list(SUITES).index(row["suite"])),
    }


def write_json(document: Mapping[str, Any], path: Path) -> None:
    """Write beside the target and rename, so that an old file is never half replaced.

    Numbers that are not finite, as the losses of a reference that diverged, are null there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(json.dumps(_finite(document), indent=1, allow_nan=False) + "\n")
    draft.replace(path)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__)
    add = parser.add_argument
    add(
        "suites",
        nargs="*",
        metavar="SUITE",
        help=f"{', '.join(SUITES)}; none: all but the last three",
    )
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--size", type=int, action="append", default=[], help="long side in pixels; repeatable")
    add("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of everyone")
    add("--quick", action="store_true", help="small: about five minutes on two cores")
    add("--json", type=Path, metavar="FILE", help="write the results here")
    add(
        "--save",
        action="store_true",
        help="write them to benchmarks/results/MACHINE.json; on a GPU without --quick the default",
    )
    add("--merge", action="store_true", help="keep the other suites that are in that file already")
    add("--report", type=Path, metavar="DIR", help="write a page with tables and charts here")
    add("--pairs", type=int, help=f"loss, quality, causes: picture pairs, up to {len(PAIRS)}")
    add(
        "--pair",
        nargs=2,
        action="append",
        default=[],
        metavar=("CONTENT", "STYLE"),
        help="quality, causes: pictures of your own in place of the built-in pairs; repeatable",
    )
    add("--pictures", type=Path, metavar="DIR", help="quality, causes: a contact sheet, here")
    add(
        "--seeds",
        type=int,
        default=1,
        help="loss, precision: seeds for each pair [1; precision: 3]",
    )
    add(
        "--evaluations",
        type=int,
        help="loss, precision: of each run [300]; optimiser: likewise; peers: of everyone [60]; "
        "quality, causes: iterations at most; video: frames [6]",
    )
    add("--rounds", type=int, help="interleaved repeats of a case at most")
    add("--skip", action="append", default=[], metavar="NAME", help="leave out implementations")
    add("--cache", default="", metavar="DIR", help="peers: where their environments are kept")
    add("--readme", action="store_true", help="fill README.md from results/ and measure nothing")
    add(
        "--compare",
        nargs=2,
        type=Path,
        metavar="JSON",
        help="list the ratios that two runs disagree on, and measure nothing",
    )
    return parser


if __name__ == "__main__":
    # As Ctrl-C: what was measured is written. A shell has Ctrl-C ignored in what it starts with &.
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), _interrupt)
    sys.exit(main())
