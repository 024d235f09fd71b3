"""``quality``: what the pictures of fastnst's presets and of other systems' look like, in numbers.

Every figure of grain is the picture's power over the painting's, in luminance and in two colour
differences: 1 is as fine as the painting. With ``--pictures DIR`` there is a contact sheet to look
at. Its rows have no baseline: nothing here is timed in turn.
"""

from __future__ import annotations

from functools import partial

from benchmarks import renders
from benchmarks.renders import Arm
from benchmarks.suite import Suite

ARMS = (
    Arm("gatys", "gatys"),
    Arm("fast", "fast"),
    Arm("hires", "hires", halved=True),
    Arm("neural-style", "neural-style"),
    Arm("pastiche", "pastiche"),
    Arm("crowsonkb", "crowsonkb"),
)


SUITE = Suite(
    "quality",
    "What the pictures look like: grain over the painting's, clipping, lattices, what is kept.",
    renders.cases,
    partial(renders.measure, "quality", ARMS),
    baseline="gatys",
    summarise=renders.summarise,
    table=renders.table,
    on_request=True,
)
