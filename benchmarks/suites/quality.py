"""``quality``: what the pictures of fastnst's presets and of other systems' look like, in numbers.

Every figure of grain is the picture's power over the painting's, in luminance and in two colour
differences: 1 is as fine as the painting. With ``--pictures DIR`` there is a contact sheet to look
at. Its rows have no baseline: nothing here is timed in turn.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import renders
from benchmarks.options import Options
from benchmarks.renders import Arm
from benchmarks.rows import Row
from benchmarks.suites.base import Case, Suite

ARMS = (
    Arm("gatys", "gatys"),
    Arm("fast", "fast"),
    Arm("hires", "hires", halved=True),
    Arm("neural-style", "neural-style"),
    Arm("pastiche", "pastiche"),
    Arm("crowsonkb", "crowsonkb"),
)


def cases(options: Options) -> list[Case]:
    sizes = options.choose_sizes(full=(256,), quick=(64,))
    return [Case(title, size) for size in sizes for title in renders.pairs(options)]


def measure(case: Case, options: Options) -> Iterator[Row]:
    yield from renders.measure(SUITE.name, ARMS, case.title, case.size, options)


SUITE = Suite(
    "quality",
    "What the pictures look like: grain over the painting's, clipping, lattices, what is kept.",
    cases,
    measure,
    baseline="gatys",
    summarise=renders.summarise,
    table=renders.table,
    on_request=True,
)
