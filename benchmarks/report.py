"""Makes of the JSON something to read: Markdown tables, a page with charts, comparisons."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import tables
from benchmarks.suites import SUITES
from benchmarks.tables import RowDict

AGREEMENT = 0.15  # ratios of two runs on one machine should not differ by more
MARK, END = "<!-- tables -->", "<!-- /tables -->"

Document = Mapping[str, Any]


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
            parts.append(f"### {suite.name}\n\n{suite.claim}\n\n{suite.table(rows)}")
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


def _is_brief(row: RowDict) -> bool:
    """Whether a brief table has a row: all but the single layers of ``ops`` at 256 and 1024 px."""
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
        f"{len(pairs)} ratios were measured in both runs; "
        f"they differ by {100 * median(apart):.1f} % in the median "
        f"and {100 * max(apart):.1f} % at most. "
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
    found = tables.table(header, lines)
    return f"{text}; in {baseline} of them the baseline's time moved more:\n\n{found}"


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
