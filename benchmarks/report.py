"""From the JSON to something to read: Markdown tables, a page with charts, and comparisons."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.suites import SUITES

AGREEMENT = 0.15  # ratios of two runs on one machine should not differ by more
MARK, END = "<!-- tables -->", "<!-- /tables -->"

Document = Mapping[str, Any]
RowDict = Mapping[str, Any]


def load(path: Path) -> dict[str, Any]:
    """Read a document written by ``run.py``."""
    document: dict[str, Any] = json.loads(path.read_text())
    return document


# -------------------------------------------------------------------------------------- tables --


def to_markdown(document: Document, brief: bool = False) -> str:
    """All tables. ``brief`` leaves out what a first reader can do without: see ``_is_brief``."""
    parts = [machine(document["environment"])]
    for suite in SUITES.values():
        rows = [row for row in document["rows"] if row["suite"] == suite.name]
        if brief:
            rows = [row for row in rows if _is_brief(row)]
        if rows:
            parts.append(f"### {suite.name}\n\n{suite.claim}\n\n{_TABLES[suite.name](rows)}")
    if "second_run" in document:
        parts.append(f"### How well two runs agree\n\n{document['second_run']}")
    return "\n\n".join(parts) + "\n"


def machine(environment: Mapping[str, Any]) -> str:
    """One paragraph: what the figures belong to."""
    isa = environment.get("instruction_set") or "none"
    parts = [
        f"**{environment['machine']}**",
        f"{environment['threads']} threads",
        f"torch {environment['torch']}",
        f"fastnst {environment['fastnst']} (native instruction set: {isa})",
        environment["date"],
    ]
    if environment.get("quick"):
        parts.append("`--quick`: for a first look, not for conclusions")
    if environment.get("interrupted"):
        parts.append("interrupted: not all was measured")
    text = ", ".join(parts) + "."
    ceilings = environment.get("ceilings")
    if ceilings:
        found = ceilings.get("gemm_tf32_flops")
        tf32 = f", {found / 1e9:.0f} TF32" if found else ""
        text += (
            f" Measured ceilings: matrix product {ceilings['gemm_fp32_flops'] / 1e9:.0f} GFLOP/s "
            f"fp32{tf32} and {ceilings['gemm_bf16_flops'] / 1e9:.0f} bf16, "
            f"copy {ceilings['copy_bytes_per_second'] / 1e9:.1f} GB/s."
        )
    return text


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every column but the first is right-aligned."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in (header, rule, *lines))
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def seconds(value: float | None) -> str:
    """Three figures and a unit that suits them."""
    if value is None:
        return ""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale or unit == "µs":
            return f"{_three(value / scale)} {unit}"
    raise AssertionError


def speedup(row: RowDict) -> str:
    """``1.83×``; below 1 it is slower than the reference."""
    return "" if row["speedup"] is None else f"{row['speedup']:.2f}×"


def _three(value: float) -> str:
    return f"{value:.{max(0, 2 - len(str(int(value))) + 1)}f}"


def _spread(row: RowDict) -> str:
    """The time, and the interquartile range in per cent of it."""
    text = seconds(row["seconds"])
    if row["runs"] and row["runs"] > 1 and row["seconds"]:
        text += f" ± {100 * row['seconds_iqr'] / row['seconds']:.0f} %"
    return text


def _ops(rows: Sequence[RowDict]) -> str:
    """One line a case, one column an implementation: time and ratio."""
    columns = list(dict.fromkeys(row["implementation"] for row in rows))
    cases: dict[tuple[Any, ...], dict[str, RowDict]] = {}
    for row in rows:
        key = (row["size"], row["case"], row["dtype"])
        cases.setdefault(key, {})[row["implementation"]] = row
    lines = []
    for (size, case, dtype), found in sorted(cases.items(), key=lambda item: item[0][0]):
        cells = [_ops_cell(found.get(name)) for name in columns]
        lines.append([f"{size} {case} {dtype}", *cells])
    text = table(["picture, layer, pass, type", *columns], lines)
    return (
        f"{text}\n\nEach cell: milliseconds, ratio to eager, and in brackets the share of the "
        f"machine's ceiling.{_errors(rows)}"
    )


def _ops_cell(row: RowDict | None) -> str:
    if row is None:
        return ""
    if row["error"] or row["seconds"] is None:
        return "error"
    text = f"{_three(1e3 * row['seconds'])} {speedup(row)}"
    share = row.get("ceiling_share")
    return text if share is None else f"{text} ({100 * share:.0f} %)"


def _plain(rows: Sequence[RowDict], extra: Mapping[str, tuple[str, str]]) -> str:
    """One line a row; ``extra`` is ``{column: (heading, format)}``. Floors, where there are any."""
    floors = ["floor"] if any(row.get("floor_seconds") for row in rows) else []
    header = [
        "case",
        "implementation",
        "type",
        "time ± IQR",
        "ratio",
        *[h for h, _ in extra.values()],
        *floors,
    ]
    lines = []
    for row in rows:
        own = [
            "" if row.get(name) is None else format(row[name], form)
            for name, (_, form) in extra.items()
        ]
        own += [_floor(row) for _ in floors]
        name = f"{row['case']}, {row['size']} px"
        time = "**error**" if row["error"] and row["seconds"] is None else _spread(row)
        lines.append([name, row["implementation"], row["dtype"], time, speedup(row), *own])
    return table(header, lines) + _errors(rows)


def _floor(row: RowDict) -> str:
    """The least time that the GPU could take, and its share of the time taken."""
    floor = row.get("floor_seconds")
    if not floor or not row["seconds"]:
        return ""
    return f"{seconds(floor)} ({100 * floor / row['seconds']:.0f} %)"


def _errors(rows: Sequence[RowDict]) -> str:
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["error"]:
            where = f"{row['case']} {row['dtype']} {row['size']} px"
            found.setdefault((row["implementation"], row["error"]), []).append(where)
    lines = []
    for (name, error), places in found.items():
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        lines.append(f"* {name} ({places[0]}{more}): {error}")
    return "\n\nErrors:\n\n" + "\n".join(lines) if lines else ""


def _memory(rows: Sequence[RowDict]) -> str:
    lines = [
        [
            f"{row['case']}, {row['size']} px",
            row["implementation"],
            row["dtype"],
            *(_gib(row.get(name)) for name in ("peak_bytes", "baseline_bytes", "own_bytes")),
            "" if row.get("memory_ratio") is None else f"{row['memory_ratio']:.2f}×",
        ]
        for row in rows
    ]
    header = ["case", "implementation", "type", "peak", "before the run", "of the run", "ratio"]
    return table(header, lines) + _errors(rows)


def _gib(value: float | None) -> str:
    return "**error**" if value is None else f"{value / 2**30:.2f} GiB"


_TABLES = {
    "ops": _ops,
    "evaluation": lambda rows: _plain(
        rows, {"loss_error": ("loss off by", ".0e"), "gradient_error": ("gradient off by", ".0e")}
    ),
    "controls": lambda rows: _plain(
        rows, {"loss_error": ("loss off by", ".0e"), "gradient_error": ("gradient off by", ".0e")}
    ),
    "optimiser": lambda rows: _plain(rows, {}),
    "loss": lambda rows: _plain(
        rows,
        {
            "evaluations": ("evaluations", "d"),
            "loss": ("loss", ".4g"),
            "target": ("L_ref", ".4g"),
            "saved_target": ("L_saved", ".4g"),
            "saved_speedup": ("ratio to L_saved", ".1f"),
        },
    ),
    "precision": lambda rows: _plain(
        rows, {"loss": ("loss", ".4g"), "loss_ratio": ("over plain PyTorch's", ".3f")}
    ),
    "memory": _memory,
    "peers": lambda rows: _plain(
        rows, {"evaluations": ("evaluations", "d"), "loss": ("reference objective", ".4g")}
    ),
}


def _is_brief(row: RowDict) -> bool:
    """Of ``ops`` the five layers together and each layer at 512 px; of the rest everything."""
    if row["suite"] != "ops":
        return True
    return row["case"].startswith("five layers") or (
        row["size"] == 512 and "backward" in row["case"]
    )


# ------------------------------------------------------------------------------------ comparing --


def key(row: RowDict) -> tuple[Any, ...]:
    """What two runs' rows have in common if they measured the same."""
    return tuple(row[k] for k in ("suite", "case", "implementation", "device", "dtype", "size"))


def compare(first: Document, second: Document) -> list[tuple[tuple[Any, ...], float, float]]:
    """(key, ratio in the first run, in the second) of all rows that have both, worst first."""
    other = {key(row): row["speedup"] for row in second["rows"]}
    pairs = [
        (key(row), row["speedup"], other[key(row)])
        for row in first["rows"]
        if row["speedup"] is not None and other.get(key(row)) is not None
    ]
    return sorted(pairs, key=lambda pair: -difference(pair[1], pair[2]))


def difference(a: float, b: float) -> float:
    """How much the larger of two ratios is above the smaller: 0.15 is 15 %."""
    return max(a, b) / min(a, b) - 1


def comparison(first: Document, second: Document) -> str:
    """How well the ratios of two runs agree, in Markdown."""
    pairs = compare(first, second)
    if not pairs:
        return "The two runs have no ratio in common."
    apart = [difference(a, b) for _, a, b in pairs]
    beyond = [pair for pair in pairs if difference(pair[1], pair[2]) > AGREEMENT]
    text = (
        f"{len(pairs)} ratios were measured in both runs; they differ by {100 * median(apart):.1f} % "
        f"in the median and {100 * max(apart):.1f} % at most. "
        f"{len(beyond)} differ by more than {100 * AGREEMENT:.0f} %"
    )
    if not beyond:
        return f"{text}."
    rows = [{key(row): row for row in document["rows"]} for document in (first, second)]
    lines, baseline = [], 0
    for k, a, b in beyond:
        one, other = rows[0][k], rows[1][k]
        moved = [difference(one[name], other[name]) for name in ("reference_seconds", "seconds")]
        baseline += moved[0] > moved[1]
        cause = [f"{100 * x:.0f} %" for x in moved]
        lines.append(
            [
                " ".join(map(str, k)),
                f"{a:.2f}×",
                f"{b:.2f}×",
                f"{100 * difference(a, b):.0f} %",
                *cause,
            ]
        )
    header = ["row", "first", "second", "apart", "baseline's time", "own time"]
    return (
        f"{text}; in {baseline} of them the baseline's time moved more:\n\n{table(header, lines)}"
    )


def print_comparison(first: Document, second: Document) -> int:
    """Print it. 0 if all ratios agree, otherwise 1."""
    print(comparison(first, second))
    pairs = compare(first, second)
    return int(not pairs or any(difference(a, b) > AGREEMENT for _, a, b in pairs))


# --------------------------------------------------------------------------------------- files --


def write(document: Document, folder: Path) -> Path:
    """The page ``report.md`` and its charts.

    Raises:
        SystemExit: if matplotlib is missing; the page is there then, without charts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.md"
    head = (
        "# fastnst benchmark\n\nEvery ratio is the reference's time over the implementation's, "
        "measured in turn in the same run: above 1 is faster than the textbook loop, below 1 is "
        "slower. Times are medians; ± is the interquartile range.\n\n"
    )
    page.write_text(head + to_markdown(document))
    try:
        from benchmarks import charts
    except ImportError as error:
        raise SystemExit(
            f"{page} was written without charts: {error}; pip install matplotlib"
        ) from error
    pictures = charts.draw(document, folder)
    links = "\n\n".join(f"![{title}]({path.name})" for path, title in pictures)
    page.write_text(f"{head}{links}\n\n{to_markdown(document)}" if links else page.read_text())
    return page


def fill_readme(readme: Path, results: Sequence[Path]) -> None:
    """Replace what stands between the marks by the tables of the results.

    ``NAME.second.json`` beside ``NAME.json`` is a second run of the same machine, to compare.
    """
    parts = []
    for path in results:
        if path.name.endswith(".second.json"):
            continue
        document = load(path)
        second = path.with_suffix(".second.json")
        if second.exists():
            document["second_run"] = comparison(document, load(second))
        parts.append(to_markdown(document, brief=True))
    block = "\n\n".join([MARK, *parts, END])
    text = readme.read_text()
    pattern = re.compile(f"{MARK}(.*{END})?", re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"{readme} has no place marked {MARK}")
    readme.write_text(pattern.sub(lambda _: block, text, count=1))
