"""``controls``: one loss and gradient with each control of the objective, engine against engine.

The textbook loop knows none of them; what they cost is said against plain PyTorch (engine ``torch``)
and against the first case, which is the default objective.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from benchmarks import setups
from benchmarks.measure import interleave
from benchmarks.options import PAIRS, Options
from benchmarks.rows import Row, one_line, summary
from benchmarks.suites.base import Case, Suite
from benchmarks.suites.evaluation import distance
from fastnst import Settings
from fastnst.engines.create import create_engine
from fastnst.objective.regions import Region

BASELINE = "torch fp32"
CONTROLS = MappingProxyType(
    {
        "the default": {},
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
    image = loaded.start.to(options.device)
    row = partial(Row, "controls", case.title, device=options.device, size=case.size)

    arms: dict[str, Callable[[], tuple[float, Tensor]]] = {}
    for way in setups.engines(options.device):
        name, precision = way.name, way.precision
        if name != BASELINE and not options.wants(name):
            continue
        try:
            built = create_engine(
                setups.weights(settings.weights, settings.preprocessing),
                content,
                styles if settings.style_blend else styles[:1],
                replace(settings, **way.settings),
                regions,
            )
        except Exception as error:  # noqa: BLE001 - becomes the error of a row
            yield row(name, dtype=precision, error=one_line(error))
            continue
        arms[name] = partial(_evaluate, built, image)

    truth = arms[BASELINE]()
    samples = interleave(
        arms,
        device=options.device,
        rounds=options.rounds or (5 if options.quick else 15),
        budget=2.0 if options.quick else 10.0,
    )
    reference_seconds = summary(samples[BASELINE].seconds)["seconds"]
    for name, sample in samples.items():
        if sample.error:
            yield row(name, dtype=name.split()[-1], error=sample.error)
            continue
        loss, gradient = arms[name]()
        yield row(
            name,
            dtype=name.split()[-1],
            **summary(sample.seconds),
            reference_seconds=reference_seconds,
            extra={
                "loss_error": abs(loss - truth[0]) / abs(truth[0]),
                "gradient_error": distance(gradient, truth[1]),
            },
        )


def _evaluate(engine: Any, image: Tensor) -> tuple[float, Tensor]:
    evaluation = engine.evaluate(image)
    return float(evaluation.terms.total), evaluation.gradient.clone()


SUITE = Suite(
    "controls",
    "One loss and gradient with each control, against plain PyTorch of the same objective.",
    cases,
    measure,
    baseline=BASELINE,
)
