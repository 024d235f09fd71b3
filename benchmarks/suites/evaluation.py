"""``evaluation``: one loss and gradient of the whole objective, every engine against the reference.

Each row says how far its gradient is from the reference's (``gradient_error``, relative in the
Euclidean norm), so that no speed is bought with a wrong answer unseen.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import Tensor

from benchmarks import engines, setups, tables
from benchmarks.options import PAIRS, Options
from benchmarks.reference import Reference
from benchmarks.rows import Row
from benchmarks.suite import Case, Suite
from fastnst import Settings


def cases(options: Options) -> list[Case]:
    sizes = options.choose_sizes(full=(256, 512, 1024), quick=(128, 256))
    return [Case("loss and gradient", size) for size in sizes]


def measure(case: Case, options: Options) -> Iterator[Row]:
    settings = Settings(device=options.device)
    loaded = setups.pictures(*PAIRS[0], case.size, settings)
    content, style = loaded.content.to(options.device), loaded.style.to(options.device)
    image = loaded.start.to(options.device)
    reference = setups.reference(content, style, settings)
    yield from engines.measure(
        engines.Problem(content, [style], image, settings),
        options,
        partial(Row, "evaluation", case.title, device=options.device, size=case.size),
        baseline="reference",
        others={"reference": partial(evaluate_reference, reference, image)},
        rounds=options.rounds or (8 if options.quick else 30),
        budget=3.0 if options.quick else 30.0,
    )


def evaluate_reference(objective: Reference, image: Tensor) -> tuple[float, Tensor]:
    """What the closure of the textbook loop does."""
    x = image.clone().requires_grad_()
    loss = objective.loss(x)
    loss.backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return float(loss.detach()), x.grad


SUITE = Suite(
    "evaluation",
    "One loss and gradient of the whole objective, which is what each iteration costs.",
    cases,
    measure,
    table=partial(tables.plain, columns=engines.COLUMNS),
)
