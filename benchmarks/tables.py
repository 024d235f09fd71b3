"""Rows of a suite as Markdown tables; each suite names the one that shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

RowDict = Mapping[str, Any]  # a row as JSON has it
NONE: Mapping[str, tuple[str, str]] = MappingProxyType({})


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


def grid(rows: Sequence[RowDict]) -> str:
    """One line for each case and one column for each implementation: time and ratio."""
    columns = list(dict.fromkeys(row["implementation"] for row in rows))
    cases: dict[tuple[Any, ...], dict[str, RowDict]] = {}
    for row in rows:
        key = (row["size"], row["case"], row["dtype"])
        cases.setdefault(key, {})[row["implementation"]] = row
    lines = []
    for (size, case, dtype), found in sorted(cases.items(), key=lambda item: item[0][0]):
        cells = [_grid_cell(found.get(name)) for name in columns]
        lines.append([f"{size} {case} {dtype}", *cells])
    text = table(["picture, layer, pass, type", *columns], lines)
    return (
        f"{text}\n\nEach cell: milliseconds, ratio to eager, and in brackets the share of the "
        f"machine's ceiling.{errors(rows)}"
    )


def _grid_cell(row: RowDict | None) -> str:
    if row is None:
        return ""
    if row["error"] or row["seconds"] is None:
        return "error"
    text = f"{_three(1e3 * row['seconds'])} {speedup(row)}"
    share = row.get("ceiling_share")
    return text if share is None else f"{text} ({100 * share:.0f} %)"


def plain(rows: Sequence[RowDict], columns: Mapping[str, tuple[str, str]] = NONE) -> str:
    """One line for each row, with the floors where there are any.

    Args:
        rows: The rows of one suite.
        columns: Further columns of the suite: ``{name: (heading, format)}``.
    """
    floors = ["floor"] if any(row.get("floor_seconds") for row in rows) else []
    header = [
        "case",
        "implementation",
        "type",
        "time ± IQR",
        "ratio",
        *[h for h, _ in columns.values()],
        *floors,
    ]
    lines = []
    for row in rows:
        own = [
            "" if row.get(name) is None else format(row[name], form)
            for name, (_, form) in columns.items()
        ]
        own += [_floor(row) for _ in floors]
        name = f"{row['case']}, {row['size']} px"
        time = "**error**" if row["error"] and row["seconds"] is None else _spread(row)
        lines.append([name, row["implementation"], row["dtype"], time, speedup(row), *own])
    return table(header, lines) + errors(rows)


def _floor(row: RowDict) -> str:
    """The least time that the GPU could take, and its share of the time taken."""
    floor = row.get("floor_seconds")
    if not floor or not row["seconds"]:
        return ""
    return f"{seconds(floor)} ({100 * floor / row['seconds']:.0f} %)"


def errors(rows: Sequence[RowDict]) -> str:
    """A list of what went wrong, in which cases; nothing if all went well."""
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


def memory(rows: Sequence[RowDict]) -> str:
    """One line for each row: peak memory, and how much of it the run itself took."""
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
    return table(header, lines) + errors(rows)


def _gib(value: float | None) -> str:
    return "**error**" if value is None else f"{value / 2**30:.2f} GiB"
