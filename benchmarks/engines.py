"""One loss and gradient of an objective, engine against engine, timed in turn.

The suites ``evaluation`` and ``controls`` measure this; they differ in their objectives and in what
they compare with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from benchmarks import environment, floors, setups
from benchmarks.measure import distance, interleave
from benchmarks.options import Options
from benchmarks.rows import Row, one_line, summary
from fastnst import Settings
from fastnst.engines.create import create_engine
from fastnst.engines.mixed_engine import WINDOW
from fastnst.evaluation import Engine, Evaluation
from fastnst.objective.regions import Region
from fastnst.solvers.device.cuda_graph import WARM_UP, CudaGraph

COLUMNS = {"loss_error": ("loss off by", ".0e"), "gradient_error": ("gradient off by", ".0e")}
Arm = Callable[[], tuple[float, Tensor]]  # loss and gradient


@dataclass(frozen=True)
class Problem:
    """An objective, and the picture at which it is evaluated.

    Attributes:
        content: ``(1, 3, H, W)`` float32, on the device of the run.
        styles: Style pictures, each ``(1, 3, H, W)`` with its own height and width.
        image: ``(1, 3, H, W)``, as large as ``content``.
        settings: Settings of a run; each engine replaces engine, precision and provider.
        regions: Which style goes where; None for one style everywhere.
        is_default: Whether it is the default objective, which ``floors`` knows.
    """

    content: Tensor
    styles: Sequence[Tensor]
    image: Tensor
    settings: Settings
    regions: Sequence[Region] | None = None
    is_default: bool = True


def measure(
    problem: Problem,
    options: Options,
    row: Callable[..., Row],
    *,
    baseline: str,
    others: Mapping[str, Arm] | None = None,
    rounds: int,
    budget: float,
) -> Iterator[Row]:
    """Time every engine on a problem.

    Args:
        problem: What all of them compute.
        options: What the benchmark was asked to do.
        row: Makes a row from an implementation's name and further columns.
        baseline: The implementation that ratios and errors are taken against: one of ``others``, or
            an engine's name as in ``setups.Way``. ``--skip`` does not leave it out.
        others: Arms in float32 that are no engines of fastnst.
        rounds: Repeats at most.
        budget: Seconds after which no new repeat begins.
    """
    arms: dict[str, Arm] = dict(others or {})
    precisions = dict.fromkeys(arms, "fp32")
    for way in setups.evaluating(options.device):
        if way.name != baseline and not options.wants(way.name):
            continue
        try:
            found = _arms(way, problem, options.device)
        except Exception as error:  # noqa: BLE001 - becomes the error of a row
            yield row(way.name, dtype=way.precision, error=one_line(error))
            continue
        arms |= found
        precisions |= dict.fromkeys(found, way.precision)

    loss, gradient = arms[baseline]()
    truth = loss, gradient.clone()  # an engine may reuse the memory of its gradient
    samples = interleave(arms, device=options.device, rounds=rounds, budget=budget)
    reference_seconds = summary(samples[baseline].seconds)["seconds"]
    pixels = problem.image.shape[-1] * problem.image.shape[-2]
    for name, sample in samples.items():
        if sample.error:
            yield row(name, dtype=precisions[name], error=sample.error)
            continue
        loss, gradient = arms[name]()
        floor = {}
        if problem.is_default and options.device == "cuda":
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


def _arms(way: setups.Way, problem: Problem, device: str) -> dict[str, Arm]:
    """The engine as it is, and on a GPU also as the CUDA graph that a run makes of it.

    That of precision ``mixed`` is told of a loss that has stalled: it is as it is to a run's end.
    """
    settings = replace(problem.settings, **way.settings)
    engine = create_engine(
        setups.weights(settings.weights, settings.preprocessing),
        problem.content,
        problem.styles,
        settings,
        problem.regions,
    )
    if way.precision == "mixed":
        engine.resume([1.0] * (WINDOW + 1))
    arms: dict[str, Arm] = {way.name: partial(_evaluate, engine, problem.image)}
    if device == "cuda" and engine.capturable:
        arms[f"{way.name} graph"] = Recorded(engine, problem.image)
    return arms


def _evaluate(engine: Engine, image: Tensor) -> tuple[float, Tensor]:
    evaluation = engine.evaluate(image)
    return float(evaluation.terms.total), evaluation.gradient


class Recorded:
    """An engine's evaluation as a CUDA graph, which is how a run on a GPU executes it."""

    def __init__(self, engine: Engine, image: Tensor) -> None:
        self.evaluation: Evaluation

        def work() -> None:
            self.evaluation = engine.evaluate(image)

        self.replayed = CudaGraph(work, image.device)
        for _ in range(WARM_UP + 1):
            self.replayed()

    def __call__(self) -> tuple[float, Tensor]:
        self.replayed()
        return float(self.evaluation.terms.total), self.evaluation.gradient
