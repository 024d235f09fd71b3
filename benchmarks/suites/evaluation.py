"""``evaluation``: one loss and gradient of the whole objective, every engine against the reference.

Each row says how far its gradient is from the reference's (``gradient_error``, relative in the
Euclidean norm), so that no speed is bought with a wrong answer unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import environment, floors, setups
from benchmarks.measure import interleave
from benchmarks.options import PAIRS, Options
from benchmarks.reference import Reference
from benchmarks.rows import Row, one_line, summary
from benchmarks.suites.base import Case, Suite
from fastnst import Settings
from fastnst.engines.create import create_engine
from fastnst.solvers.device.cuda_graph import WARM_UP, CudaGraph


def cases(options: Options) -> list[Case]:
    sizes = options.choose_sizes(full=(256, 512, 1024), quick=(128, 256))
    return [Case("loss and gradient", size) for size in sizes]


def measure(case: Case, options: Options) -> Iterator[Row]:
    settings = Settings(device=options.device)
    loaded = setups.pictures(*PAIRS[0], case.size, settings)
    content, style = loaded.content.to(options.device), loaded.style.to(options.device)
    image = loaded.start.to(options.device)
    objective = setups.reference(content, style, settings)
    row = partial(Row, "evaluation", case.title, device=options.device, size=case.size)

    arms: dict[str, Callable[[], tuple[float, Tensor]]]
    arms = {"reference": partial(evaluate_reference, objective, image)}
    precisions = {"reference": "fp32"}
    for way in setups.engines(options.device):
        name, precision = way.name, way.precision
        if not options.wants(name):
            continue
        try:
            chosen = replace(settings, **way.settings)
            built = create_engine(
                setups.weights(settings.weights, settings.preprocessing), content, style, chosen
            )
        except Exception as error:  # noqa: BLE001 - becomes the error of a row
            yield row(name, dtype=precision, error=one_line(error))
            continue
        arms[name] = partial(_evaluate, built, image)
        precisions[name] = precision
        if options.device == "cuda" and built.capturable:
            arms[f"{name} graph"] = Recorded(built, image)
            precisions[f"{name} graph"] = precision

    truth = evaluate_reference(objective, image)
    samples = interleave(
        arms,
        device=options.device,
        rounds=options.rounds or (8 if options.quick else 30),
        budget=3.0 if options.quick else 30.0,
    )
    reference_seconds = summary(samples["reference"].seconds)["seconds"]
    pixels = image.shape[-1] * image.shape[-2]
    for name, sample in samples.items():
        if sample.error:
            yield row(name, dtype=precisions[name], error=sample.error)
            continue
        loss, gradient = arms[name]()
        floor = {}
        if options.device == "cuda":
            ceilings = environment.ceilings(options.device, options.quick)
            floor["floor_seconds"] = floors.evaluation(pixels, precisions[name], ceilings)
        yield row(
            name,
            dtype=precisions[name],
            **summary(sample.seconds),
            reference_seconds=reference_seconds,
            extra={
                "pixels": pixels,
                "loss": loss,
                "loss_error": abs(loss - truth[0]) / abs(truth[0]),
                "gradient_error": distance(gradient, truth[1]),
                **floor,
            },
        )


class Recorded:
    """An engine's evaluation as a CUDA graph, which is how a run on a GPU has it."""

    def __init__(self, engine: Any, image: Tensor) -> None:
        self.evaluation: Any = None

        def work() -> None:
            self.evaluation = engine.evaluate(image)

        self.replayed = CudaGraph(work, image.device)
        for _ in range(WARM_UP + 1):
            self.replayed()

    def __call__(self) -> tuple[float, Tensor]:
        self.replayed()
        return float(self.evaluation.terms.total), self.evaluation.gradient


def evaluate_reference(objective: Reference, image: Tensor) -> tuple[float, Tensor]:
    """What the closure of the textbook loop does."""
    x = image.clone().requires_grad_()
    loss = objective.loss(x)
    loss.backward()
    assert x.grad is not None
    return float(loss.detach()), x.grad


def _evaluate(engine: Any, image: Tensor) -> tuple[float, Tensor]:
    evaluation = engine.evaluate(image)
    return float(evaluation.terms.total), evaluation.gradient


def distance(a: Tensor, b: Tensor) -> float:
    """|a − b| / |b|, Euclidean."""
    return float(torch.linalg.vector_norm(a.double() - b) / torch.linalg.vector_norm(b.double()))


SUITE = Suite(
    "evaluation",
    "One loss and gradient of the whole objective, which is what each iteration costs.",
    cases,
    measure,
)
