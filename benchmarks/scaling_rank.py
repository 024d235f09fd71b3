"""A rank of a measured run, which ``suites/scaling.py`` starts: it writes down what it took."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import median

import torch

from fastnst.images.decode import load_image
from fastnst.images.pixels import to_pil
from fastnst.ranks.communication import current, join, leave
from fastnst.run.run import run
from fastnst.run.step import Step
from fastnst.settings.settings import Settings

LIMIT = 300.0  # seconds that a rank waits for another
WARM = 3  # iterations that do not count: after them the history is full
PAIRS = 2  # of curvature


def main(
    folder: str, width: str, height: str, threads: str, iterations: str, optimizer: str
) -> None:
    torch.set_num_threads(int(threads))
    ranks = join(LIMIT)
    size = int(width), int(height)
    photo = to_pil(load_image("sample:harbour")).resize(size)
    settings = Settings(
        size=max(size),
        iterations=int(iterations),
        engine="native",
        precision="fp32",
        history_size=PAIRS,
        optimizer=optimizer,
    )
    marks: list[tuple[float, int, int]] = []

    def note(step: Step) -> None:
        marks.append((time.perf_counter(), current().sent, step.evaluations))

    result = run(photo, "sample:swirl", settings, note)
    steps = [
        (after[0] - before[0], after[1] - before[1])
        for before, after in zip(marks[WARM:], marks[WARM + 1 :], strict=False)
        if after[2] - before[2] == 1
    ]
    found = {
        "seconds": [seconds for seconds, _ in steps],
        "sent": median(sent for _, sent in steps),  # pictures on the way go to rank 0 now and then
        "bands": result.strips,
        "loss": result.losses.total,
    }
    (Path(folder) / f"{ranks.rank}.json").write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
