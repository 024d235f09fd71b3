"""``controls``: one loss and gradient with each control of the objective, engine against engine.

The textbook loop has none of these controls, so their cost is compared with plain PyTorch (engine
``torch``) and with the first case, which is the default objective.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch

from benchmarks import engines, setups, tables
from benchmarks.options import PAIRS, Options
from benchmarks.rows import Row
from benchmarks.suite import Case, Suite
from fastnst import Settings
from fastnst.objective.regions import Region

BASELINE = "torch fp32"
DEFAULT = "the default"
CONTROLS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        DEFAULT: {},
        "two styles": {"style_blend": (1.0, 3.0)},
        "two regions": {"style_blend": (1.0, 1.0)},
        "max pooling": {"pooling": "max"},
        "l2 pooling": {"pooling": "l2"},
        "replicate padding": {"padding": "replicate"},
        "covariance": {"statistics": ("covariance",)},
        "mean-std": {"statistics": ("mean-std",)},
        "wasserstein": {"statistics": ("wasserstein",)},
        "nine-point variation": {"tv_weight": 1.0, "tv_form": "nine-point"},
        "l1 gradients": {"gradient_norm": "l1"},
    }
)


def cases(options: Options) -> list[Case]:
    sizes = options.choose_sizes(full=(256,), quick=(128,))
    return [Case(title, size) for size in sizes for title in CONTROLS]


def measure(case: Case, options: Options) -> Iterator[Row]:
    settings = Settings(device=options.device, **CONTROLS[case.title])
    loaded = setups.pictures(*PAIRS[0], case.size)
    other = setups.pictures(*PAIRS[1], case.size)
    content = loaded.content.to(options.device)
    styles = [loaded.style.to(options.device), other.style.to(options.device)]
    regions = None
    if case.title == "two regions":
        where = torch.zeros(content.shape[-2:], device=options.device)
        where[:, : where.shape[1] // 2] = 1
        regions = (Region({0: None}, where), Region({1: None}, 1 - where))
    problem = engines.Problem(
        content,
        styles if settings.style_blend else styles[:1],
        loaded.start.to(options.device),
        settings,
        regions,
        is_default=case.title == DEFAULT,
    )
    yield from engines.measure(
        problem,
        options,
        partial(Row, "controls", case.title, device=options.device, size=case.size),
        baseline=BASELINE,
        rounds=options.rounds or (5 if options.quick else 15),
        budget=2.0 if options.quick else 10.0,
    )


SUITE = Suite(
    "controls",
    "One loss and gradient with each control, against plain PyTorch of the same objective.",
    cases,
    measure,
    baseline=BASELINE,
    table=partial(tables.plain, columns=engines.COLUMNS),
)
