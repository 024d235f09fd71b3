"""``precision``: where a run ends in each engine and precision, after as many evaluations.

Every run has the default settings and its own white noise; its picture is scored by the textbook
loop's objective in float32. Two runs that differ in the last bit of a sum end some per cent apart,
in either direction, so one pair says nothing; the median over pairs and seeds does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from statistics import median

import torch

from benchmarks import setups, tables
from benchmarks.options import PAIRS, Options
from benchmarks.rows import Row, one_line, ratio, summary
from benchmarks.suite import Case, Suite
from fastnst import stylize

BASELINE = "torch fp32"


def cases(options: Options) -> list[Case]:
    sizes = options.choose_sizes(full=(128,), quick=(64,))
    pairs = PAIRS[: options.pairs or (1 if options.quick else 4)]
    seeds = range(options.seeds if options.quick else max(options.seeds, 3))
    return [
        Case(
            f"{content} + {style}, seed {seed}".replace("sample:", ""),
            size,
            details={"content": content, "style": style, "seed": seed},
        )
        for size, (content, style), seed in product(sizes, pairs, seeds)
    ]


def measure(case: Case, options: Options) -> Iterator[Row]:
    details = case.details or {}
    names = details["content"], details["style"]
    iterations = (options.evaluations or (30 if options.quick else 300)) - 1
    loaded = setups.pictures(*names, case.size)
    content, style = loaded.content.to(options.device), loaded.style.to(options.device)
    objective = setups.reference(content, style)
    row = partial(Row, "precision", case.title, device=options.device, size=case.size)
    truth: tuple[float, float] | None = None
    ways = sorted(setups.engines(options.device, mixed=True), key=lambda way: way.name != BASELINE)
    for way in ways:
        if way.name != BASELINE and not options.wants(way.name):
            continue
        try:
            result = stylize(
                *names,
                **way.settings,
                size=case.size,
                seed=details["seed"],
                device=options.device,
                iterations=iterations,
            )
        except Exception as error:  # noqa: BLE001 - becomes the error of a row
            yield row(way.name, dtype=way.precision, error=one_line(error))
            if truth is None:  # nothing to compare the others with
                return
            continue
        image = torch.from_numpy(result.pixels).permute(2, 0, 1)[None].contiguous()
        loss = setups.score(objective, image.to(options.device))
        truth = truth or (loss, result.seconds)
        yield row(
            way.name,
            dtype=way.precision,
            seconds=result.seconds,
            runs=1,
            reference_seconds=truth[1],
            extra={"loss": loss, "loss_ratio": ratio(loss, truth[0])},
        )


def summarise(rows: Sequence[Row]) -> Iterator[Row]:
    """The median over pairs and seeds, of each way at each size."""
    done = [r for r in rows if not r.error]
    for name, dtype, size in dict.fromkeys((r.implementation, r.dtype, r.size) for r in done):
        mine = [r for r in done if (r.implementation, r.size) == (name, size)]
        yield Row(
            "precision",
            f"median of {len(mine)}",
            name,
            mine[0].device,
            dtype,
            size,
            **summary([r.seconds or 0.0 for r in mine]),
            reference_seconds=median([r.reference_seconds or 0.0 for r in mine]),
            extra={"loss_ratio": median([r.extra["loss_ratio"] for r in mine])},
        )


COLUMNS = {"loss": ("loss", ".4g"), "loss_ratio": ("over plain PyTorch's", ".3f")}
SUITE = Suite(
    "precision",
    "The loss of the picture after equal evaluations, over that of plain PyTorch in float32.",
    cases,
    measure,
    BASELINE,
    summarise,
    table=partial(tables.plain, columns=COLUMNS),
)
