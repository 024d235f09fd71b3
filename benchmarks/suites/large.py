"""``large``: one evaluation in one piece and in strips, time and peak memory.

Each in a process of its own, after one evaluation that warms up. Strips of all heights compute the
same gradient; smaller ones take less memory and more time, for their halos. The lowest ones also
with content targets in a scratch file, and computed anew for each strip.

*Tiles of one size* compute pictures of 4, 16 and 65 megapixels in pieces of 672×672 pixels and a
halo. What the engine and its making take beyond what grows with the picture, its gradient and its
content targets, has to be the same for all. (A ``--size`` that is a multiple of 672 asks for this
alone.) The layers are those to relu2_2, which have two thirds of the features and are computed in a
sixth of the time.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks import setups, tables
from benchmarks.options import PAIRS, Options
from benchmarks.processes import begin_peak, in_own_process, peak_bytes
from benchmarks.rows import Row, one_line
from benchmarks.suite import Case, Suite
from fastnst import Settings
from fastnst.engines.create import create_engine
from fastnst.run.available import return_large_blocks
from fastnst.run.footprint import footprint
from fastnst.run.memory import PICTURE
from fastnst.run.pieces import Plan, cuts
from fastnst.strips.geometry import Grid
from fastnst.strips.storage import ScratchStore

ROWS = (0, 768, 384, 192)  # owned rows of a strip; 0: one piece
OWNED = 672  # columns and rows of a tile
SHALLOW: dict[str, Any] = {"content_layers": ("relu2_2",), "style_layers": ("relu1_1", "relu2_1")}
TILES = "tiles of one size"
WAYS = ("kept", "in a scratch file", "recomputed")  # content targets, with the lowest strips
COLUMNS = {
    "strips": ("pieces", "d"),
    "peak_bytes": ("peak, bytes", ",.0f"),
    "beyond_bytes": ("beyond what grows", ",.0f"),
}


@dataclass(frozen=True)
class Task:
    """What a process is to do.

    Attributes:
        engine: ``native`` or ``torch``.
        size: Long side of the picture in pixels.
        rows: Owned rows of a strip; 0: one piece.
        threads: How many.
        targets: One of ``WAYS``.
        columns: Owned columns of a tile; 0: all.
        device: What computes; in strips the picture lies in main memory.
    """

    engine: str
    size: int
    rows: int
    threads: int
    targets: str = WAYS[0]
    columns: int = 0
    device: str = "cpu"


def cases(options: Options) -> list[Case]:
    on_gpu = options.device != "cpu"
    sizes = options.choose_sizes(full=(2048, 4096) if on_gpu else (1024, 2048), quick=(512,))
    if not (options.quick or options.sizes or on_gpu):
        sizes = (*sizes, 3 * OWNED, 6 * OWNED, 12 * OWNED)
    return [Case("evaluation" if size % OWNED else TILES, size) for size in sizes]


def measure(case: Case, options: Options) -> Iterator[Row]:
    if case.title == TILES:
        if options.wants("native") and options.device == "cpu":
            yield _measure_tiles(case, options)
        return
    for engine in ("native", "torch"):
        if not options.wants(engine):
            continue
        device = options.device
        tasks = [Task(engine, case.size, rows, options.threads, device=device) for rows in ROWS]
        tasks += [replace(tasks[-1], targets=way) for way in WAYS[1:]]
        for task in tasks:
            cut = f"strips of {task.rows} rows" if task.rows else "one piece"
            way = "" if task.targets == WAYS[0] else f", targets {task.targets}"
            title = f"{case.title}, {cut}{way}"
            answer = in_own_process(_child, task)
            row = partial(Row, "large", title, engine, device=device, dtype="fp32", size=case.size)
            if isinstance(answer, str):
                yield row(error=answer)
                continue
            yield row(
                seconds=answer["seconds"],
                runs=1,
                peak_bytes=int(answer["peak"]),
                extra={"baseline_bytes": answer["baseline"], "strips": answer["strips"]},
            )


def _measure_tiles(case: Case, options: Options) -> Row:
    task = Task("native", case.size, OWNED, options.threads, columns=OWNED)
    answer = in_own_process(_tiles_child, task)
    row = partial(Row, "large", case.title, "native", device="cpu", dtype="fp32", size=case.size)
    if isinstance(answer, str):
        return row(error=answer)
    grows = answer["per_pixel"] * case.size**2
    beyond = answer["peak"] - answer["baseline"] - grows
    return row(
        seconds=answer["seconds"],
        runs=1,
        peak_bytes=int(answer["peak"]),
        extra={
            "baseline_bytes": answer["baseline"],
            "strips": answer["strips"],
            "beyond_bytes": beyond,
        },
    )


def _tiles_child(sender: Connection, task: Task) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(task.threads)
    try:
        settings = Settings(engine=task.engine, precision="fp32", **SHALLOW)
        weights = setups.weights(settings.weights, settings.preprocessing)
        style = setups.pictures(*PAIRS[0], 512).style
        content = torch.rand(1, 3, task.size, task.size, generator=torch.Generator().manual_seed(0))
        cut = cuts(settings, torch.device("cpu"))
        grid = Grid.cut(task.size, task.size, cut, task.rows, task.columns)
        counted = footprint(settings, torch.device("cpu"), 0, task.size, task.size)
        baseline = begin_peak("cpu")
        return_large_blocks()
        engine = create_engine(weights, content, style, settings, grid=grid)
        began = time.perf_counter()
        engine.evaluate(content)
        seconds = time.perf_counter() - began
        sender.send(
            {
                "seconds": seconds,
                "peak": peak_bytes("cpu"),
                "baseline": baseline,
                "strips": len(grid),
                "per_pixel": PICTURE + counted.content,
            }
        )
    except Exception as error:  # noqa: BLE001 - becomes the error of a row
        sender.send(one_line(error))


def _child(sender: Connection, task: Task) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    torch.set_num_threads(task.threads)
    try:
        settings = Settings(engine=task.engine, precision="fp32", device=task.device)
        weights = setups.weights(settings.weights, settings.preprocessing)
        loaded, device = setups.pictures(*PAIRS[0], task.size), torch.device(task.device)
        height, width = loaded.content.shape[-2:]
        plan = Plan(Grid.cut(height, width, cuts(settings, device), task.rows))
        loaded = loaded.to(plan.home(device))
        baseline = begin_peak(task.device)
        store = ScratchStore(tempfile.gettempdir()) if task.targets == WAYS[1] else None
        engine = create_engine(
            *(weights, loaded.content, loaded.style, settings),
            grid=plan.grid,
            store=store,
            keep=task.targets != WAYS[2],
            device=device,
        )
        begin_peak(task.device)  # what setting up took at its peak is gone; targets are counted
        engine.evaluate(loaded.start)
        began = time.perf_counter()
        float(engine.evaluate(loaded.start).terms.total)  # a GPU has finished
        seconds = time.perf_counter() - began
        sender.send(
            {
                "seconds": seconds,
                "peak": peak_bytes(task.device),
                "baseline": baseline,
                "strips": plan.strips,
            }
        )
    except Exception as error:  # noqa: BLE001 - becomes the error of a row
        sender.send(one_line(error))


SUITE = Suite(
    "large",
    "One evaluation in one piece and in strips: time and peak memory.",
    cases,
    measure,
    table=partial(tables.plain, columns=COLUMNS),
)
