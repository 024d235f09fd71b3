"""The report's charts; the only module that needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from benchmarks.suites import SUITES

Rows = Sequence[Mapping[str, Any]]
REFERENCE, OURS, LOSING = "#8a8a8a", "#2a6f97", "#c1666b"


def draw(document: Mapping[str, Any], folder: Path) -> list[tuple[Path, str]]:
    """Draw the charts that the document has data for; returns their files and titles."""
    pictures = []
    for name in SUITES:
        rows = [row for row in document["rows"] if row["suite"] == name]
        bars = [row for row in rows if row["speedup"] is not None and _is_shown(row)]
        if bars:
            pictures.append(_bars(name, bars, folder))
    curves = [r for r in document["rows"] if r["suite"] == "loss" and r.get("curve")]
    for case in dict.fromkeys((row["case"], row["size"]) for row in curves):
        mine = [row for row in curves if (row["case"], row["size"]) == case]
        pictures.append(_curves(case, mine, folder, index=len(pictures)))
    memory = [r for r in document["rows"] if r["suite"] == "memory" and r.get("own_bytes")]
    if memory:
        pictures.append(_memory(memory, folder))
    return pictures


def _is_shown(row: Mapping[str, Any]) -> bool:
    if row["implementation"] == SUITES[row["suite"]].baseline:
        return False
    return row["suite"] != "ops" or str(row["case"]).startswith("five layers")


def _bars(name: str, rows: Rows, folder: Path) -> tuple[Path, str]:
    """Ratio of every row; those below 1 in another colour."""
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.28 * len(rows)), layout="constrained")
    labels = [f"{r['case']}, {r['size']} px {r['dtype']}, {r['implementation']}" for r in rows]
    values = [row["speedup"] for row in rows]
    colours = [OURS if value >= 1 else LOSING for value in values]
    bars = axes.barh(range(len(rows)), values, color=colours)
    axes.bar_label(bars, [f"{value:.2f}×" for value in values], padding=3, fontsize=8)
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.axvline(1, color=REFERENCE, linewidth=1)
    axes.margins(x=0.12)
    baseline = SUITES[name].baseline
    title = f"{name}: speed relative to {baseline} (1 = as fast; red = slower)"
    axes.set_title(title, fontsize=10)
    return _save(figure, folder / f"{name}.png"), title


def _curves(case: tuple[str, int], rows: Rows, folder: Path, index: int) -> tuple[Path, str]:
    """Reference objective against seconds; a dot where the reference's best is reached."""
    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    highest = 0.0
    for row in rows:
        points = [point for point in row["curve"] if point[1] < float("inf")]
        is_reference = row["implementation"] == "reference"
        style = {"color": REFERENCE, "linewidth": 2} if is_reference else {"linewidth": 1.5}
        (line,) = axes.plot(*zip(*points, strict=True), label=row["implementation"], **style)
        if row["seconds"] is not None:
            axes.plot(*points[-1], "o", color=line.get_color())
        highest = max(highest, points[min(len(points) - 1, 1)][1])
    axes.axhline(rows[0]["target"], color=REFERENCE, linestyle=":")
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_ylim(top=max(highest, 1.5 * rows[0]["target"]))
    axes.set_xlabel("seconds of evaluations and solver")
    axes.set_ylabel("reference objective")
    axes.legend(fontsize=8)
    title = (
        f"loss against seconds: {case[0]}, {case[1]} px (a dot: as good as the reference's best)"
    )
    axes.set_title(title, fontsize=10)
    return _save(figure, folder / f"loss-curve-{index}.png"), title


def _memory(rows: Rows, folder: Path) -> tuple[Path, str]:
    """Peak less what was there before the run, against size."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name in dict.fromkeys(row["implementation"] for row in rows):
        mine = sorted((r for r in rows if r["implementation"] == name), key=lambda r: r["size"])
        colour: dict[str, Any] = {"color": REFERENCE} if name == "reference" else {}
        axes.plot(
            [r["size"] for r in mine],
            [r["own_bytes"] / 2**30 for r in mine],
            "o-",
            label=name,
            **colour,
        )
    axes.set_xlabel("long side of the picture in pixels")
    axes.set_ylabel("peak memory of the run, GiB")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    title = "memory against size"
    axes.set_title(title, fontsize=10)
    return _save(figure, folder / "memory.png"), title


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
