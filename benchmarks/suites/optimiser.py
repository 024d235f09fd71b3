"""``optimiser``: one L-BFGS step without the evaluation, against ``torch.optim.LBFGS``.

The objective is a quadratic whose gradient costs one multiplication; the time inside it is
subtracted. The history is full before the first timing.

On a GPU ``fastnst`` is the solver that keeps its state there, with an iteration recorded as a CUDA
graph (the time inside the objective is not subtracted), and there is one more case: a run of 500
evaluations at 512 px.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks import environment, floors, setups
from benchmarks.measure import interleave, now
from benchmarks.options import PAIRS, Options
from benchmarks.quadratic import Quadratic
from benchmarks.rows import Row, summary
from benchmarks.suite import Case, Suite
from fastnst import Terms, minimise, stylize
from fastnst.evaluation import Evaluation
from fastnst.settings.settings import HISTORY_SIZE
from fastnst.solvers.device.cuda_graph import CudaGraph
from fastnst.solvers.device.lbfgs import DeviceLBFGS

RUN = 500  # evaluations


def cases(options: Options) -> list[Case]:
    sizes = options.choose_sizes(full=(256, 512, 1024), quick=(256,))
    histories = (10, 100) if options.quick else (10, 20, 100)
    steps = [
        Case(f"history {history}", size, details={"history": history})
        for size in sizes
        for history in histories
    ]
    if options.device != "cuda":
        return steps
    sizes = options.choose_sizes(full=(512,), quick=(256,))
    evaluations = options.evaluations or RUN
    return [*steps, *(Case(f"{evaluations} evaluations", size) for size in sizes)]


class TorchSteps:
    """``torch.optim.LBFGS`` as the textbook loop calls it; each call is one step."""

    def __init__(self, objective: Quadratic, history: int) -> None:
        self.objective = objective
        self.image = objective.start.clone().requires_grad_()
        self.optimizer = torch.optim.LBFGS(
            [self.image], max_iter=1, history_size=history, tolerance_grad=-1, tolerance_change=-1
        )

    def __call__(self) -> float:
        """The step's seconds, less those of the objective."""

        def closure() -> Tensor:
            loss, self.image.grad = self.objective(self.image)
            return loss

        def step() -> None:
            self.optimizer.step(closure)  # type: ignore[no-untyped-call]

        return _less_objective(self.objective, step)


class FastnstSteps:
    """``fastnst.minimise``; each call is one step."""

    def __init__(self, objective: Quadratic, history: int) -> None:
        self.objective = objective

        def evaluate(image: Tensor) -> Evaluation:
            loss, gradient = objective(image)
            return Evaluation(Terms(loss, {}, {}, loss), gradient)

        self.iterates = minimise(evaluate, objective.start, iterations=10**6, history_size=history)
        next(self.iterates)  # the start: evaluated, no step yet

    def __call__(self) -> float:
        """The step's seconds, less those of the objective."""
        return _less_objective(self.objective, lambda: next(self.iterates))


class DeviceSteps:
    """``DeviceLBFGS`` as in a run on a GPU; a call is one iteration and its evaluation."""

    def __init__(self, objective: Quadratic, history: int) -> None:
        self.solver = DeviceLBFGS(objective.start, objective.evaluate, history)
        self.solver.begin()
        self.replayed = CudaGraph(self.solver.advance, objective.start.device)

    def __call__(self) -> None:
        self.replayed()


def _less_objective(objective: Quadratic, step: Callable[[], object]) -> float:
    objective.seconds = 0.0
    began = now(objective.device)
    step()
    return now(objective.device) - began - objective.seconds


def measure(case: Case, options: Options) -> Iterator[Row]:
    if case.details is None:
        yield from _runs(case, options)
        return
    history = case.details["history"]
    shape = (1, 3, case.size, case.size)
    arms: dict[str, Callable[[], object]] = {
        "torch.optim.LBFGS": TorchSteps(Quadratic(shape, options.device), history),
    }
    steps = DeviceSteps if options.device == "cuda" else FastnstSteps
    arms["fastnst"] = steps(Quadratic(shape, options.device), history)
    samples = interleave(
        arms,
        device=options.device,
        rounds=options.rounds or 20,
        budget=2.0 if options.quick else 10.0,
        warm_up=history + 2,
    )
    row = partial(Row, "optimiser", case.title, device=options.device, dtype="fp32", size=case.size)
    reference = samples["torch.optim.LBFGS"]
    for name, sample in samples.items():
        if sample.error:
            yield row(name, error=sample.error)
            continue
        yield row(
            name,
            **summary(sample.seconds),
            reference_seconds=None if reference.error else summary(reference.seconds)["seconds"],
            extra={"history": history, **_floor(case.size**2, history, options)},
        )


def _floor(pixels: int, history: int, options: Options) -> dict[str, float]:
    if options.device != "cuda":
        return {}
    ceilings = environment.ceilings(options.device, options.quick)
    return {"floor_seconds": floors.step(pixels, history, ceilings)}


def _runs(case: Case, options: Options) -> Iterator[Row]:
    """Whole runs from white noise, in turn, without loading pictures and computing targets."""
    evaluations = int(case.title.split()[0])
    loaded = setups.pictures(*PAIRS[0], case.size)
    content, style = (x.to(options.device) for x in (loaded.content, loaded.style))
    objective = setups.reference(content, style)
    start = setups.white_noise(content, 0)

    def textbook() -> None:
        for _, _ in zip(range(evaluations), objective.optimise(start), strict=False):
            pass

    def fastnst_run(precision: str) -> float:
        result = stylize(
            *PAIRS[0],
            size=case.size,
            iterations=evaluations - 1,
            precision=precision,
            device=options.device,
        )
        return result.seconds

    names = {"reference": "fp32", "fastnst fp32": "fp32", "fastnst bf16": "bf16"}
    arms: dict[str, Callable[[], object]] = {"reference": textbook}
    for name in ("fastnst fp32", "fastnst bf16"):
        if options.wants(name):
            arms[name] = partial(fastnst_run, names[name])
    samples = interleave(arms, device=options.device, rounds=options.rounds or 3, warm_up=1)
    reference = samples["reference"]
    ceilings = environment.ceilings(options.device, options.quick)
    pixels = content.shape[-1] * content.shape[-2]
    for name, sample in samples.items():
        row = partial(Row, "optimiser", case.title, name, options.device, names[name], case.size)
        if sample.error:
            yield row(error=sample.error)
            continue
        history = HISTORY_SIZE
        floor = floors.run(pixels, names[name], evaluations, history, ceilings)
        yield row(
            **summary(sample.seconds),
            reference_seconds=None if reference.error else summary(reference.seconds)["seconds"],
            extra={"history": history, "evaluations": evaluations, "floor_seconds": floor},
        )


SUITE = Suite(
    "optimiser",
    "One L-BFGS step on a full history, without the evaluation, against torch.optim.LBFGS.",
    cases,
    measure,
    "torch.optim.LBFGS",
)
