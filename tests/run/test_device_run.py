"""Whole runs led by the device: on the CPU, where every launch is done at once; and what a GPU can lack."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fastnst
from fastnst import InvalidInput
from fastnst.engines import create
from fastnst.engines.create import create_engine
from fastnst.engines.planned import cuda
from fastnst.engines.planned.cuda import PlannedEngine
from fastnst.engines.torch_engine import TorchEngine
from fastnst.network.weights import Weights
from fastnst.objective.build import build_objective
from fastnst.ops import buffers
from fastnst.run import memory, prepare, run, solve
from fastnst.run.checkpoint import load_checkpoint
from fastnst.settings.settings import Settings
from fastnst.solvers.device import cuda_graph
from fastnst.solvers.device.cuda_graph import WARM_UP, CudaGraph
from fastnst.solvers.device.lbfgs import DeviceLBFGS
from fastnst.solvers.device.loop import BATCH
from helpers.engines import pictures
from helpers.pictures import smooth

CONTENT, STYLE = smooth(48, 36), smooth(40, 44, seed=1)
SMALL = {"size": 48, "iterations": 14, "style_layers": ("relu1_1", "relu2_1"),
         "content_layers": ("relu2_1",)}  # fmt: skip


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engine ``native`` is the one of a GPU, on the CPU."""

    def create(weights, content, style, settings, regions=None, cache=None):
        objective = build_objective(weights, content, style, settings, "torch", regions, cache)
        return PlannedEngine(objective, "fp32", kept=cache)

    monkeypatch.setattr(prepare, "create_engine", create)


@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral"])
def test_the_run_is_that_of_the_host(as_on_a_gpu: None, monkeypatch, optimizer: str) -> None:
    # without the compiled kernels, so that both keep the history as it is
    monkeypatch.setattr(buffers, "cannot_run", lambda features: "not asked for")
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


@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral"])
@pytest.mark.parametrize(("history_size", "iteration"), [(4, 9), (100, 9), (4, 0), (4, 1), (1, 3)])
def test_a_resumed_run_is_bit_identical(
    as_on_a_gpu: None, tmp_path: Path, optimizer: str, history_size: int, iteration: int
) -> None:
    settings = {**SMALL, "optimizer": optimizer, "history_size": history_size}
    whole = fastnst.stylize(CONTENT, STYLE, **settings)
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


def test_what_the_device_cannot_lead_the_host_does(as_on_a_gpu: None, random_weights) -> None:
    content, style, _ = pictures(20, 20)
    layers = {"content_layers": ("relu1_1",), "style_layers": ("relu2_1",)}
    objective = build_objective(random_weights, content, style, Settings(**layers), "torch")
    engine = PlannedEngine(objective)
    assert runs_on_device(engine, Settings())
    assert runs_on_device(engine, Settings(optimizer="spectral"))
    assert not runs_on_device(TorchEngine(objective), Settings())
    for settings in ({"optimizer": "torch-lbfgs"}, {"optimizer": "adam"}, {"averaging": 0.9}):
        assert not runs_on_device(engine, Settings(**settings))
    adam = fastnst.stylize(CONTENT, STYLE, optimizer="adam", averaging=0.5, **SMALL)
    assert adam.evaluations == 16  # the average is evaluated last


# ------------------------------------------------------------------------------------ recording --


class StandIn:
    """CUDA graphs, streams and devices that take notes. Recording runs nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[str] = []
        log = self.log

        class Context:
            def __init__(self, name: str) -> None:
                self.name = name

            def __enter__(self) -> None:
                log.append(f"{self.name} [")

            def __exit__(self, *_: object) -> None:
                log.append("]")

        class Stream:
            def __init__(self, name: str = "side") -> None:
                self.name = name

            def wait_stream(self, other: Any) -> None:
                log.append(f"{self.name} waits for {other.name}")

        class Graph:
            def replay(self) -> None:
                log.append("replay")

        cuda = {
            "Stream": Stream,
            "CUDAGraph": Graph,
            "current_stream": lambda: Stream("main"),
            "stream": lambda stream: Context(stream.name),
            "device": lambda device: Context(str(device)),
            "graph": lambda graph, stream, capture_error_mode: Context(f"record on {stream.name}"),
        }
        monkeypatch.setattr(cuda_graph, "torch", SimpleNamespace(cuda=SimpleNamespace(**cuda)))


def test_work_is_warmed_up_recorded_once_and_replayed(monkeypatch) -> None:
    notes = StandIn(monkeypatch)
    work = CudaGraph(lambda: notes.log.append("work"), torch.device("cuda", 1))
    for _ in range(WARM_UP + 3):
        work()
    on = "cuda:1 ["
    warm = [on, "side waits for main", "side [", "work", "]", "main waits for side", "]"]
    record = [on, "record on side [", "work", "]", "replay", "]"]
    assert notes.log == warm * WARM_UP + record + [on, "replay", "]"] * 2


@pytest.mark.parametrize(("device", "record"), [("cpu", True), ("cuda", False)])
def test_elsewhere_work_is_done_each_time(monkeypatch, device: str, record: bool) -> None:
    notes = StandIn(monkeypatch)
    work = CudaGraph(lambda: notes.log.append("work"), torch.device(device), record)
    for _ in range(4):
        work()
    assert notes.log == ["work"] * 4


def places(solver: DeviceLBFGS) -> dict[str, int]:
    tensors = {**vars(solver), **(vars(solver.scaling) if solver.scaling else {})}
    return {k: v.data_ptr() for k, v in tensors.items() if torch.is_tensor(v)}


def test_an_iteration_fetches_nothing(random_weights: Weights, monkeypatch) -> None:
    """No number, no branch on one: what would make a recording fail, or lie."""
    content, style, image = pictures(37, 30)
    settings = Settings(
        content_layers=("relu2_2",),
        style_layers=("relu1_1", "conv2_1", "pool2"),
        tv_weight=1.0,
        gradient_norm="l2",
    )
    for changes in ({}, {"gradient_norm": "none", "pooling": "l2", "padding": "replicate"}):
        chosen = Settings(**{**settings.to_dict(), **changes})
        objective = build_objective(random_weights, content, style, chosen, "torch")
        engine = PlannedEngine(objective)
        solver = DeviceLBFGS(image, engine.evaluate, 3, spectral=bool(changes))
        solver.begin()
        solver.advance()

        def refuse(name: str):
            def refused(*_: object, **__: object) -> None:
                raise AssertionError(f"Tensor.{name} was called")

            return refused

        fetching = ("item", "tolist", "cpu", "numpy", "__float__", "__int__", "__bool__")
        with monkeypatch.context() as patch:
            for name in (*fetching, "nonzero", "__index__"):
                patch.setattr(torch.Tensor, name, refuse(name))
            for maker in ("tensor", "as_tensor"):  # copies from the host
                patch.setattr(torch, maker, refuse(maker))
            before = places(solver)
            for _ in range(5):
                solver.advance()
            after = places(solver)
        assert before == after  # a replayed graph writes to where it was recorded


# --------------------------------------------------------------------------------------- memory --


def test_memory_that_runs_out_is_an_error_with_a_size_that_fits(monkeypatch) -> None:
    settings = Settings(size=512)

    def out_of_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(memory, "available", lambda device: 2**34)
    monkeypatch.setattr(prepare, "create_engine", out_of_memory)
    with pytest.raises(InvalidInput, match=r"cpu ran out of memory with a 512×384") as caught:
        fastnst.stylize(CONTENT, STYLE, size=512)
    assert "\n" not in str(caught.value)
    assert int(str(caught.value).split("--size ")[1].split()[0]) < 512
    needed = memory.estimate(512, 384, settings)
    monkeypatch.setattr(memory, "available", lambda device: needed // 2)
    with (
        pytest.raises(InvalidInput, match="ran out of memory") as caught,
        memory.enough(512, 384, settings, torch.device("cpu")),
    ):
        out_of_memory()
    fits = int(str(caught.value).split("--size ")[1].split()[0])
    assert memory.estimate(fits, fits * 3 // 4, settings) < needed // 2


def test_a_recording_that_ran_out_of_memory_says_so_too() -> None:
    def record() -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    with (
        pytest.raises(InvalidInput, match="ran out of memory"),
        memory.enough(64, 64, Settings(), torch.device("cpu")),
    ):
        record()


def test_other_errors_pass() -> None:
    for error in (RuntimeError("cuDNN error"), fastnst.BackendUnavailable("no"), ValueError("x")):
        with (
            pytest.raises(type(error), match=str(error)) as caught,
            memory.enough(64, 64, Settings(), torch.device("cpu")),
        ):
            raise error
        assert caught.value is error


# ------------------------------------------------------------------------------------- no device --


def test_without_a_visible_gpu_everything_runs_on_the_cpu() -> None:
    code = (
        "import fastnst, numpy\n"
        "from fastnst.info import info\n"
        "grey = numpy.full((32, 32, 3), 0.5, numpy.float32)\n"
        "result = fastnst.stylize(grey, grey, size=32, iterations=1)\n"
        "print(result.device, info()['chosen']['device'])\n"
        "try:\n"
        "    fastnst.stylize(grey, grey, size=32, iterations=1, device='cuda:1')\n"
        "except fastnst.BackendUnavailable as error:\n"
        "    print(error)\n"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "cpu cpu"
    assert second.startswith("device cuda:1 cannot be used: ")


def test_a_gpu_gets_the_plan_whatever_is_compiled(random_weights: Weights, monkeypatch) -> None:
    """``meta`` stands for a device that is no CPU: what is built there, not what it computes."""
    assert create.unavailable_reason("native", torch.device("cuda")) is None
    chosen = []

    def built(*arguments: Any, **_: Any) -> Any:
        chosen.append(arguments[4])
        return SimpleNamespace(layers=("relu1_1",), normalize=SimpleNamespace())

    engines = create
    monkeypatch.setattr(engines, "build_objective", built)
    monkeypatch.setattr(engines, "PlannedEngine", lambda objective, precision, kept: precision)
    monkeypatch.setattr(cuda, "cannot_run", lambda objective, precision: None)
    picture = torch.empty(1, 3, 8, 8, device="meta")
    for engine, precision in itertools.product(("auto", "native"), ("auto", "bf16")):
        settings = Settings(engine=engine, precision=precision)
        made = create_engine(random_weights, picture, picture, settings)
        assert made == ("bf16" if precision == "bf16" else "fp32")
    assert chosen == ["torch"] * 4  # nothing compiled is asked for beforehand
    monkeypatch.setattr(cuda, "cannot_run", lambda objective, precision: "it is too old")
    with pytest.raises(fastnst.BackendUnavailable, match="engine native cannot run: it is too old"):
        create_engine(random_weights, picture, picture, Settings(engine="native"))
