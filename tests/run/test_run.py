"""Whole runs that the device leads: on the CPU, where every launch is done at once."""

from __future__ import annotations

import functools
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import fastnst
from fastnst.engines.planned.cuda import PlannedEngine
from fastnst.engines.torch_engine import TorchEngine
from fastnst.evaluation import Evaluation
from fastnst.objective.build import build_objective
from fastnst.ops import buffers
from fastnst.run import solve
from fastnst.run.checkpoint import load_checkpoint
from fastnst.solvers.device.loop import BATCH
from helpers.pictures import smooth

CONTENT, STYLE = smooth(48, 36), smooth(40, 44, seed=1)
SMALL = {"size": 48, "iterations": 14, "style_layers": ("relu1_1", "relu2_1"),
         "content_layers": ("relu2_1",)}  # fmt: skip


@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral"])
def test_the_run_is_that_of_the_host(as_on_a_gpu: None, monkeypatch, optimizer: str) -> None:
    # without the compiled kernels, so that both keep the history as it is
    monkeypatch.setattr(buffers, "unavailable_reason", lambda features: "not asked for")
    led_by_device = fastnst.stylize(CONTENT, STYLE, optimizer=optimizer, **SMALL)
    monkeypatch.setattr(solve, "runs_on_device", lambda engine, settings: False)
    led_by_host = fastnst.stylize(CONTENT, STYLE, optimizer=optimizer, **SMALL)
    assert led_by_device.engine == led_by_host.engine == "native"
    assert (led_by_device.iterations, led_by_device.evaluations) == (14, 15)
    assert len(led_by_device.history) == len(led_by_host.history)
    for ours, theirs in zip(led_by_device.history, led_by_host.history, strict=True):
        # float32, and no line search that would damp the rounding on the way
        assert ours.total == pytest.approx(theirs.total, rel=5e-3)
        assert ours.style == pytest.approx(theirs.style, rel=5e-3)
    assert np.abs(led_by_device.pixels - led_by_host.pixels).max() < 0.01
    assert led_by_device.snapshots.keys() == led_by_host.snapshots.keys() == {0, 7}


def test_every_step_has_its_own_picture(as_on_a_gpu: None) -> None:
    seen = {}

    def callback(step: fastnst.Step) -> None:
        seen[step.iteration] = (step.losses.total, step.pixels.copy(), step.evaluations)

    result = fastnst.stylize(CONTENT, STYLE, callback=callback, **SMALL)
    assert list(seen) == list(range(15))
    weights = fastnst.load_weights()
    scaled = fastnst.load_pictures(CONTENT, STYLE, result.settings, 48)
    objective = build_objective(weights, scaled.content, scaled.style, result.settings, "torch")
    engine = TorchEngine(objective)
    for total, pixels, _ in seen.values():
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        assert float(engine.evaluate(image).terms.total) == pytest.approx(total, rel=1e-5)
    best = min(seen.values(), key=lambda step: step[0])
    assert np.array_equal(result.pixels, best[1])


@pytest.mark.parametrize("iteration", [0, 1, BATCH, BATCH + 2, 14])
def test_an_interrupt_carries_the_best_picture_so_far(as_on_a_gpu: None, iteration: int) -> None:
    heard = {}

    def callback(step: fastnst.Step) -> None:
        heard[step.losses.total] = step.pixels.copy()
        if step.iteration == iteration:
            raise KeyboardInterrupt

    with pytest.raises(fastnst.Interrupted) as caught:
        fastnst.stylize(CONTENT, STYLE, callback=callback, **SMALL)
    result = caught.value.result
    assert result.iterations == iteration
    assert np.array_equal(result.pixels, heard[min(heard)])


@functools.cache
def uninterrupted(optimizer: str, history_size: int) -> fastnst.Result:
    """A whole run on the engine of a GPU, for all that are interrupted somewhere."""
    return fastnst.stylize(CONTENT, STYLE, **SMALL, optimizer=optimizer, history_size=history_size)


@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral"])
@pytest.mark.parametrize(("history_size", "iteration"), [(4, 9), (100, 9), (4, 0), (4, 1), (1, 3)])
def test_a_resumed_run_is_bit_identical(
    as_on_a_gpu: None, tmp_path: Path, optimizer: str, history_size: int, iteration: int
) -> None:
    settings = {**SMALL, "optimizer": optimizer, "history_size": history_size}
    whole = uninterrupted(optimizer, history_size)
    path = tmp_path / "run.checkpoint"

    def stop(step: fastnst.Step) -> None:
        if step.iteration == iteration:
            raise KeyboardInterrupt

    with pytest.raises(fastnst.Interrupted):
        fastnst.stylize(CONTENT, STYLE, checkpoint=path, callback=stop, **settings)
    assert load_checkpoint(path).solver.numbers["iteration"] == iteration
    second = fastnst.stylize(CONTENT, STYLE, resume=path, **settings)
    assert second.history == whole.history
    assert np.array_equal(second.pixels, whole.pixels)
    assert (second.iterations, second.evaluations) == (whole.iterations, whole.evaluations)


def test_checkpoints_are_kept_on_the_way_and_at_the_end(as_on_a_gpu: None, tmp_path: Path) -> None:
    path, seen = tmp_path / "run.checkpoint", set()

    def callback(step: fastnst.Step) -> None:
        if path.exists():
            seen.add(load_checkpoint(path).solver.numbers["iteration"])

    done = fastnst.stylize(
        CONTENT, STYLE, checkpoint=path, checkpoint_every=4, callback=callback, **SMALL
    )
    assert seen == {4, 8, 12}
    assert load_checkpoint(path).solver.numbers["iteration"] == 14
    again = fastnst.stylize(CONTENT, STYLE, resume=path, **SMALL)
    assert again.history == done.history


def test_several_scales(as_on_a_gpu: None) -> None:
    settings = {**SMALL, "min_size": 24, "iterations": 6, "scale_iterations": (4,)}
    result = fastnst.stylize(CONTENT, STYLE, **settings)
    assert [(s.width, s.iterations, s.evaluations) for s in result.scales] == [
        (24, 6, 7),
        (48, 4, 5),
    ]


def test_two_runs_side_by_side_are_those_of_one_after_another(as_on_a_gpu: None) -> None:
    """In threads, as on two GPUs: neither sees anything of the other's."""
    asked = [{**SMALL, "seed": seed} for seed in (0, 1)]

    def run(options: dict) -> fastnst.Result:
        return fastnst.stylize(CONTENT, STYLE, **options)

    alone = [run(options) for options in asked]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(run, asked))
    for one, other in zip(alone, together, strict=True):
        assert one.history == other.history
        assert np.array_equal(one.pixels, other.pixels)


def test_memory_that_runs_out_in_the_middle_is_freed_and_the_next_run_goes(
    as_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fastnst.stylize(CONTENT, STYLE, **SMALL)
    evaluate = PlannedEngine.evaluate
    held: list[weakref.ref[object]] = []

    def evaluated(engine: PlannedEngine, image: torch.Tensor) -> Evaluation:
        if len(held) == 12:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        held.extend(weakref.ref(x) for x in (engine, image, engine.objective))
        return evaluate(engine, image)

    with monkeypatch.context() as patch:
        patch.setattr(PlannedEngine, "evaluate", evaluated)
        with pytest.raises(
            fastnst.InvalidInput, match=r"ran out of memory.*use --size \d+"
        ) as caught:
            fastnst.stylize(CONTENT, STYLE, **SMALL)
    assert "\n" not in str(caught.value)
    assert len(held) == 12
    assert [x() for x in held] == [None] * 12  # although the error is still there
    again = fastnst.stylize(CONTENT, STYLE, **SMALL)
    assert again.history == whole.history
