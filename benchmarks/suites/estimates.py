"""``estimates``: what ``--estimate`` says of a run, against what the run takes.

Memory and time are said in one process and taken in another. The pictures are files, so that
decoding and scaling count; a run has two iterations, as its memory is that of its pairs and no more
is needed of its time.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import setups, tables
from benchmarks.options import PAIRS, Options
from benchmarks.processes import begin_peak, in_own_process, peak_bytes, resident
from benchmarks.rows import Row, one_line, ratio
from benchmarks.suite import Case, Suite
from benchmarks.tables import RowDict
from fastnst.estimate import estimate
from fastnst.run.available import LIBRARIES
from fastnst.run.resources import Resources
from fastnst.run.run import run
from fastnst.settings.settings import Settings

CONTROLS: Mapping[str, Mapping[str, Any]] = {
    "two styles": {"style_blend": (1.0, 1.0)},
    "regions": {"style_blend": (1.0, 1.0)},
    "replicate padding": {"padding": "replicate"},
    "max pooling": {"pooling": "max"},
    "Adam": {"optimizer": "adam"},
    "scales": {"min_size": 256, "iterations": 4, "scale_iterations": (3, 2)},
}
SHARE = 0.65  # of the memory of a run in one piece, which one in strips may take


@dataclass(frozen=True)
class Task:
    """A run.

    Attributes:
        fields: Of its settings.
        files: The content and the styles.
        threads: How many.
        masked: Whether two masks say where each style goes.
        memory: Bytes that it may take; None: what is free.
    """

    fields: Mapping[str, Any]
    files: Sequence[str]
    threads: int
    masked: bool = False
    memory: int | None = None
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", Settings(**{"iterations": 2, **self.fields}))

    def arguments(self) -> dict[str, Any]:
        """What ``run`` and ``estimate`` are given alike."""
        masks: dict[str, Any] = {}
        if self.masked:
            mask = np.zeros((64, 64, 3), np.uint8)
            mask[:, 32:] = 255
            masks = {"content_mask": Image.fromarray(mask), "style_masks": None}
        return {
            "content": self.files[0],
            "style": list(self.files[1:]),
            "settings": self.settings,
            "resources": Resources(self.memory),
            **masks,
        }


def cases(options: Options) -> list[Case]:
    sizes = options.choose_sizes(full=(256, 512, 1024, 2048), quick=(128,))
    found = [Case("default", size) for size in sizes]
    middle = sizes[min(1, len(sizes) - 1)]
    found += [Case(title, middle) for title in CONTROLS]
    return [*found, *(Case("strips", size) for size in sizes if size >= 1024)]


def measure(case: Case, options: Options) -> Iterator[Row]:
    if options.device != "cpu":
        return
    with tempfile.TemporaryDirectory() as folder:
        names = [*PAIRS[0], PAIRS[1][1]]
        files = setups.save_samples(names, Path(folder))
        several = case.title in ("two styles", "regions")
        for engine in ("native", "torch"):
            if not options.wants(engine):
                continue
            fields = {"size": case.size, "engine": engine, **CONTROLS.get(case.title, {})}
            task = Task(
                fields, files if several else files[:2], options.threads, case.title == "regions"
            )
            yield _row(case, engine, task)


def _row(case: Case, engine: str, task: Task) -> Row:
    row = partial(Row, "estimates", case.title, engine, device="cpu", dtype="fp32", size=case.size)
    if case.title == "strips":
        whole = in_own_process(_say, task)
        if isinstance(whole, str):
            return row(error=whole)
        memory = LIBRARIES + int(SHARE * whole["bytes"])
        task = Task(task.fields, task.files, task.threads, memory=memory)
    said, took = in_own_process(_say, task), in_own_process(_take, task)
    if isinstance(said, str) or isinstance(took, str):
        return row(error=said if isinstance(said, str) else str(took))
    return row(
        seconds=took["seconds"],
        runs=1,
        peak_bytes=took["peak"],
        extra={
            "own_bytes": took["own"],
            "said_bytes": said["bytes"],
            "said_seconds": said["seconds"],
            "bytes_ratio": ratio(said["bytes"], took["own"]),
            "seconds_ratio": ratio(said["seconds"], took["seconds"]),
            "strips": said["pieces"],
        },
    )


def _say(sender: Connection, task: Task) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    torch.set_num_threads(task.threads)
    try:
        found = estimate(**task.arguments())
        sender.send({"bytes": found.bytes, "seconds": found.seconds, "pieces": found.pieces})
    except Exception as error:  # noqa: BLE001 - becomes the error of a row
        sender.send(one_line(error))


def _take(sender: Connection, task: Task) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(task.threads)
    try:
        arguments = task.arguments()
        before, libraries = begin_peak("cpu"), resident("RssFile")
        began = time.perf_counter()
        run(**arguments)
        seconds = time.perf_counter() - began
        # what libraries read of their own files at their first use is not the run's
        own = peak_bytes("cpu") - before - (resident("RssFile") - libraries)
        sender.send({"seconds": seconds, "peak": peak_bytes("cpu"), "own": own})
    except Exception as error:  # noqa: BLE001 - becomes the error of a row
        sender.send(one_line(error))


def table(rows: Sequence[RowDict]) -> str:
    """One line for each row: memory and time, said and taken, and their quotients."""
    header = ["run", "engine", "pieces", "memory said", "taken", "", "time said", "taken", ""]
    lines = []
    for row in rows:
        name = f"{row['case']}, {row['size']} px"
        if row["error"]:
            lines.append([name, row["implementation"], "**error**", *[""] * 6])
            continue
        lines.append(
            [
                name,
                row["implementation"],
                str(row["strips"]),
                *(f"{row[key] / 1e9:.2f} GB" for key in ("said_bytes", "own_bytes")),
                f"{row['bytes_ratio']:.2f}×",
                *(tables.seconds(row[key]) for key in ("said_seconds", "seconds")),
                f"{row['seconds_ratio']:.2f}×",
            ]
        )
    return tables.table(header, lines) + tables.errors(rows)


SUITE = Suite(
    "estimates",
    "What `--estimate` says of memory and time of a whole run of two iterations, and what it took.",
    cases,
    measure,
    table=table,
    on_request=True,
)
