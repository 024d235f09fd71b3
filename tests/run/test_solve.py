"""Which side leads the solver, and that the device can lead it without the host."""

from __future__ import annotations

import torch

import fastnst
from fastnst.engines.planned.cuda import PlannedEngine
from fastnst.engines.torch_engine import TorchEngine
from fastnst.network.weights import Weights
from fastnst.objective.build import build_objective
from fastnst.ops import sums
from fastnst.run.solve import runs_on_device
from fastnst.settings.settings import Settings
from fastnst.solvers.device.lbfgs import DeviceLBFGS
from helpers.engines import pictures
from helpers.pictures import smooth

CONTENT, STYLE = smooth(48, 36), smooth(40, 44, seed=1)
SMALL = {"size": 48, "iterations": 14, "style_layers": ("relu1_1", "relu2_1"),
         "content_layers": ("relu2_1",)}  # fmt: skip


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


def places(solver: DeviceLBFGS) -> dict[str, int]:
    owners = (solver.memory, solver.steps, *([solver.scaling] if solver.scaling else []))
    tensors = {name: tensor for owner in owners for name, tensor in vars(owner).items()}
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
            patch.setattr(sums.extension, "is_available", lambda: False)  # it is not for GPUs
            before = places(solver)
            for _ in range(5):
                solver.advance()
            after = places(solver)
        assert before == after  # a replayed graph writes to where it was recorded
