"""bf16 while it makes progress, then fp32 or int16."""

from __future__ import annotations

import functools
import itertools
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import fastnst
from fastnst import BackendUnavailable, Settings
from fastnst.engines import create, mixed_engine
from fastnst.engines.create import (
    arithmetic,
    choose_precision,
    choose_short_precision,
    create_engine,
)
from fastnst.engines.mixed_engine import MixedEngine
from fastnst.engines.planned import cuda
from fastnst.engines.planned.cpu import NativeEngine
from fastnst.engines.torch_engine import TorchEngine
from fastnst.evaluation import Engine, Evaluation, Terms
from fastnst.network.weights import Weights
from fastnst.objective.build import build_objective
from fastnst.objective.objective import Objective
from fastnst.ops import extension
from fastnst.run.checkpoint import load_checkpoint
from fastnst.run.solve import solve
from fastnst.solvers.state import State
from fastnst.strips.geometry import Grid, Spacing
from helpers.functions import saved
from helpers.pictures import smooth

IMAGE = torch.zeros(1, 3, 2, 2)
CONTENT, STYLE = smooth(48, 36), smooth(40, 44, seed=1)
SMALL = {
    "size": 48, "iterations": 24, "style_layers": ("relu1_1", "relu2_1"),
    "content_layers": ("relu2_1",), "engine": "torch", "precision": "mixed",
}  # fmt: skip


class Told(Engine):
    """An engine that finds the losses it was told."""

    name, provider = "told", None

    def __init__(self, precision: str, losses: list[float]) -> None:
        self.precision = precision
        self.losses = losses

    def evaluate(self, image: torch.Tensor) -> Evaluation:
        total = torch.tensor(self.losses.pop(0), dtype=torch.float64)
        return Evaluation(Terms(total, {}, {}, total), image, self.precision)


def precisions(losses: list[float]) -> list[str]:
    """In which each of some losses is found."""
    left = list(losses)
    engine = MixedEngine(lambda precision: Told(precision, left))
    return [engine.evaluate(IMAGE).precision for _ in losses]


def test_it_changes_once_the_loss_stalls_and_never_back() -> None:
    window, progress = mixed_engine.WINDOW, mixed_engine.PROGRESS
    slow = [(1 - 0.9 * progress) ** (n / window) for n in range(3 * window)]
    assert precisions(slow) == ["bf16"] * (window + 1) + ["fp32"] * (2 * window - 1)
    quick = [(1 - 1.1 * progress) ** (n / window) for n in range(3 * window)]
    assert set(precisions(quick)) == {"bf16"}
    again = slow[: window + 1] + [0.5**n for n in range(20)]
    assert precisions(again) == ["bf16"] * (window + 1) + ["fp32"] * 20


def test_one_bad_evaluation_is_no_stall() -> None:
    losses = [0.9**n for n in range(40)]
    losses[12], losses[25] = 5.0, math.nan
    assert set(precisions(losses)) == {"bf16"}


def test_it_can_be_told_what_was_found_before() -> None:
    losses = [0.98**n for n in range(12)] + [0.7] * 30
    found = precisions(losses)
    change = found.index("fp32")
    for known in range(1, len(losses)):
        left = losses[known:]
        engine = MixedEngine(lambda precision, left=left: Told(precision, left))
        assert engine.resume(losses[:known]) == found[known - 1]
        assert [engine.evaluate(IMAGE).precision for _ in list(left)] == found[known:]
    assert 12 < change < 40


def test_each_precision_is_that_engine(random_weights: Weights) -> None:
    generator = torch.Generator().manual_seed(0)
    image, content, style = torch.rand(3, 1, 3, 37, 50, generator=generator)[:, 0].split(1)
    settings = Settings(**{**SMALL, "precision": "auto"})

    def engine(precision: str) -> fastnst.Engine:
        changed = Settings(**{**settings.to_dict(), "precision": precision})
        return create_engine(random_weights, content, style, changed)

    mixed = engine("mixed")
    assert isinstance(mixed, MixedEngine)
    for precision in ("bf16", "fp32"):
        expected, got = engine(precision).evaluate(image), mixed.evaluate(image)
        assert got.precision == expected.precision == precision
        assert torch.equal(got.gradient, expected.gradient)
        assert got.terms.total == expected.terms.total
        for _ in range(mixed_engine.WINDOW):  # the same loss again and again
            mixed.evaluate(image)
    assert engine("auto").precision == "fp32"  # a function of the picture


@pytest.mark.parametrize(
    ("precision", "integers", "stages"),
    [
        ("fp32", True, [("fp32", None)]),
        ("int16", True, [("int16", None)]),
        ("bf16", True, [("bf16", None)]),
        ("mixed", False, [("bf16", None), ("fp32", "bf16")]),
        ("mixed", True, [("bf16", None), ("int16", None)]),
    ],
)
@pytest.mark.parametrize("cut", [False, True])
def test_what_a_run_computes_with(
    random_weights: Weights,
    cut: bool,
    precision: str,
    integers: bool,
    stages: list[tuple[str, str | None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of engine ``native`` on a CPU, whole and in strips: precisions, and products back."""
    made = []

    def note(objective: Objective, precision: str, *, cache: object, back: str | None) -> Told:
        made.append((precision, back))
        return Told(precision, [1.0] * 40)

    monkeypatch.setattr(create, "unavailable_reason", lambda *_: None)
    monkeypatch.setattr(create.cpu, "unavailable_reason", lambda *_: None)
    monkeypatch.setattr(extension, "is_available", lambda: True)
    monkeypatch.setattr(extension, "multiplies_integers", lambda: integers)
    monkeypatch.setattr(create, "NativeEngine", note)
    monkeypatch.setattr(create, "NativeEvaluator", note)
    monkeypatch.setattr(create, "StripEngine", lambda evaluator, *_: evaluator)
    settings = Settings(**{**SMALL, "engine": "native", "precision": precision})
    content, style = torch.rand(2, 1, 3, 96, 32)
    it = build_objective(random_weights, content, style, settings, "torch")
    grid = Grid.cut(96, 32, Spacing(12, 12), 48) if cut else None
    engine = create.engine_of(it, (96, 32), settings, grid=grid)
    for _ in range(mixed_engine.WINDOW + 2):
        engine.evaluate(IMAGE)
    assert made == stages
    assert engine.precision == precision


@pytest.mark.skipif(not extension.is_available(), reason="no compiled extension")
def test_a_mixed_run_ends_with_the_losses_of_what_is_finer(random_weights: Weights) -> None:
    if not extension.convolves_bfloat16():
        pytest.skip("no products of bfloat16 here")
    finer = "int16" if extension.multiplies_integers() else "fp32"
    image, content, style = torch.rand(3, 1, 3, 37, 50)
    exact, mixed = (
        create_engine(
            *(random_weights, content, style),
            Settings(**{**SMALL, "engine": "native", "precision": precision}),
        )
        for precision in (finer, "mixed")
    )
    mixed.resume([1.0] * (mixed_engine.WINDOW + 1))
    got, expected = mixed.evaluate(image), exact.evaluate(image)
    assert got.precision == finer
    assert torch.equal(got.terms.total, expected.terms.total)
    assert torch.equal(got.gradient, expected.gradient) == (finer == "int16")
    assert isinstance(exact, NativeEngine)
    same = NativeEngine(exact.objective, finer, back="bf16" if finer == "fp32" else None)
    assert torch.equal(got.gradient, same.evaluate(image).gradient)


SHORT = {**SMALL, "iterations": 9}


@functools.cache
def uninterrupted() -> tuple[fastnst.Result, list[str]]:
    """A run, and the precision of each of its evaluations."""
    found: list[str] = []
    launch = MixedEngine.launch

    def launched(engine: MixedEngine, image: torch.Tensor) -> Evaluation:
        evaluation = launch(engine, image)
        found.append(evaluation.precision)
        return evaluation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MixedEngine, "launch", launched)
        return fastnst.stylize(CONTENT, STYLE, **SHORT), found


@pytest.mark.parametrize("iteration", [1, 3, 4, 5, 7])
def test_a_resumed_run_is_bit_identical(
    tmp_path: Path, iteration: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bf16, at the change to fp32 and after it."""
    monkeypatch.setattr(mixed_engine, "WINDOW", 4)
    monkeypatch.setattr(mixed_engine, "PROGRESS", 1.0)

    def stop(step: fastnst.Step) -> None:
        if step.iteration == iteration:
            raise KeyboardInterrupt

    path = tmp_path / "run.checkpoint"
    whole, found = uninterrupted()
    assert whole.precision == "mixed"
    assert found == ["bf16"] * 5 + ["fp32"] * 5
    with pytest.raises(fastnst.Interrupted):
        fastnst.stylize(CONTENT, STYLE, **SHORT, callback=stop, checkpoint=path)
    assert load_checkpoint(path).solver.numbers["iteration"] == iteration
    second = fastnst.stylize(CONTENT, STYLE, **SHORT, resume=path)
    assert second.history == whole.history
    assert second.losses == whole.losses
    assert np.array_equal(second.pixels, whole.pixels)


def test_the_best_picture_is_one_of_the_last_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss in bf16 may be lower than any in fp32 and say nothing."""
    monkeypatch.setattr(mixed_engine, "PROGRESS", 1.0)  # it changes after WINDOW evaluations
    flattering = torch.tensor(1e-6)

    class Flattering(TorchEngine):
        def evaluate(self, image: torch.Tensor) -> Evaluation:
            found = super().evaluate(image)
            if self.precision == "fp32":
                return found
            terms = Terms(found.terms.total * flattering, *list(vars(found.terms).values())[1:])
            return Evaluation(terms, found.gradient, "bf16")

    monkeypatch.setattr(create, "TorchEngine", Flattering)
    result = fastnst.stylize(CONTENT, STYLE, **SMALL)
    totals = [losses.total for losses in result.history]
    assert max(totals[: mixed_engine.WINDOW + 1]) < min(totals[mixed_engine.WINDOW + 1 :])
    assert result.losses.total == min(totals[mixed_engine.WINDOW + 1 :])


def test_auto_is_what_is_quickest(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert choose_precision(Settings(engine="torch"), cpu) == "fp32"
    assert choose_precision(Settings(precision="bf16"), cpu) == "bf16"
    with monkeypatch.context() as patched:
        for bfloat16, integers in itertools.product((False, True), repeat=2):
            has = SimpleNamespace(
                bfloat16_is_quicker=partial(bool, bfloat16),
                multiplies_integers=partial(bool, integers),
                convolves_bfloat16=partial(bool, bfloat16),
            )
            patched.setattr(extension, "_C", has)
            finer = "int16" if integers else "fp32"
            expected = "mixed" if bfloat16 else finer
            assert choose_precision(Settings(), cpu) == expected
            said = f"mixed, then {finer}" if bfloat16 else finer
            assert arithmetic(Settings(), cpu) == said
            assert arithmetic(Settings(engine="torch", precision="mixed"), cpu) == (
                "mixed, then fp32"
            )
            # no evaluations in bf16, which pay in long runs alone
            assert choose_short_precision(Settings(), cpu) == finer
            assert choose_short_precision(Settings(precision="bf16"), cpu) == "bf16"
            assert choose_short_precision(Settings(engine="torch"), cpu) == "fp32"


def test_what_is_finer_may_be_int16() -> None:
    left = [1.0] * 40
    engine = MixedEngine(lambda precision: Told(precision, left), "int16")
    found = [engine.evaluate(IMAGE).precision for _ in range(mixed_engine.WINDOW + 5)]
    assert found == ["bf16"] * (mixed_engine.WINDOW + 1) + ["int16"] * 4
    assert engine.precision == "mixed"
    again = MixedEngine(lambda precision: Told(precision, []), "int16")
    assert again.resume([1.0] * (mixed_engine.WINDOW + 2)) == "int16"


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_int16_is_for_the_compiled_kernels(random_weights: Weights, engine: str) -> None:
    if engine == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    settings = Settings(**{**SMALL, "engine": engine, "precision": "int16"})
    with pytest.raises(BackendUnavailable, match="int16"):
        create_engine(random_weights, torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), settings)


@pytest.mark.skipif(not extension.is_available(), reason="no compiled extension")
def test_int16_says_what_it_needs(random_weights: Weights) -> None:
    settings = Settings(**{**SMALL, "engine": "native", "precision": "int16"})
    with (
        extension.use_isa("scalar"),
        pytest.raises(BackendUnavailable, match="int16 needs a processor with avx512vnni"),
    ):
        create_engine(random_weights, torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), settings)


def test_a_graph_keeps_its_precision(random_weights: Weights) -> None:
    with pytest.raises(BackendUnavailable, match="engine onnx does not change its precision"):
        create_engine(
            random_weights, torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32),
            Settings(**{**SMALL, "engine": "onnx"}),
        )  # fmt: skip


def test_a_solver_on_the_device_hands_over_totals_when_it_reads_them() -> None:
    """Evaluations that were launched before the stall was seen are still in bf16."""
    slow = [1.0] * (mixed_engine.WINDOW + 1)
    engine = MixedEngine(lambda precision: Told(precision, [1.0] * 40))
    launched = [engine.launch(IMAGE).precision for _ in range(20)]
    assert set(launched) == {"bf16"}
    answers = [engine.note(loss) for loss in slow]
    assert answers == [False] * mixed_engine.WINDOW + [True]
    assert engine.launch(IMAGE).precision == "fp32"
    assert not engine.note(1.0)  # it changes once


def test_it_leaves_the_device_no_more_than_its_engines_do() -> None:
    for on_device in (True, False):

        def create_told(precision: str, on_device: bool = on_device) -> Told:
            told = Told(precision, [])
            told.capturable = told.device_only = told.tf32 = on_device
            return told

        engine = MixedEngine(create_told)
        assert engine.capturable is engine.device_only is engine.tf32 is on_device


def test_mixed_is_the_default_on_a_gpu_with_products_of_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = torch.device("cuda", 0)
    for reason, expected in ((None, "mixed"), ("it has none", "fp32")):
        monkeypatch.setattr(cuda, "bfloat16_reason", lambda _, r=reason: r)
        assert choose_precision(Settings(), device) == expected
        assert choose_precision(Settings(engine="torch"), device) == "fp32"
        assert choose_precision(Settings(precision="bf16"), device) == "bf16"


class Sloping(Engine):
    """The mean square of a picture; at its fourth evaluation less, with a gradient of NaN."""

    name, provider = "sloping", None

    def __init__(self, precision: str, seen: list[str]) -> None:
        self.precision = precision
        self.seen = seen

    def evaluate(self, image: torch.Tensor) -> Evaluation:
        self.seen.append(self.precision)
        gradient = 2 * image / image.numel()
        total = image.square().mean()
        if len(self.seen) == 4:
            total, gradient = total - 0.05, gradient * math.nan
        terms = Terms(total, {}, {}, torch.zeros(()))
        return Evaluation(terms, gradient, self.precision)


def test_a_loss_whose_gradient_is_nan_does_not_count() -> None:
    """It is not in the history of the run, by which one that goes on has its precision."""
    settings = Settings(optimizer="adam", learning_rate=0.004)
    start = torch.full((1, 3, 4, 4), 0.9)

    def run(
        seen: list[str], resume: State | None = None, losses: list[float] | None = None
    ) -> list[tuple[int, float, str, State]]:
        engine = MixedEngine(lambda precision: Sloping(precision, seen))
        if losses:
            engine.resume(losses)
        iterates = solve(engine, start, settings, 20, resume=resume)
        return [(it.iteration, it.loss, it.precision, saved(it)) for it in iterates]

    seen: list[str] = []
    whole = run(seen)
    assert "fp32" in seen
    for at in (4, 6, 9):
        known = seen[: at + 2]  # with the one that failed
        rest = run(list(known), whole[at][3], [loss for _, loss, _, _ in whole[: at + 1]])
        assert [it[:3] for it in rest] == [it[:3] for it in whole[at + 1 :]]
