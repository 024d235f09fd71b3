"""Which engine runs: what is said beforehand, and what is made."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fastnst.engines import create
from fastnst.engines.create import choose, create_engine, engine_of, unavailable_reason
from fastnst.engines.planned import cuda
from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.losses.layer_loss import LayerLoss
from fastnst.network.weights import Weights
from fastnst.objective.build import build_objective
from fastnst.ops import extension
from fastnst.settings.settings import Settings
from helpers.engines import SETTINGS, pictures

CPU = torch.device("cpu")
COMPILED = replace(SETTINGS[0], device="cpu")


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"engine": "torch"},
        {"engine": "native"},
        {"engine": "onnx"},
        {"engine": "torch", "precision": "bf16"},
        {"engine": "torch", "precision": "mixed"},
        {"content_weight": 0.0, "style_weight": 0.0, "tv_weight": 1.0, "precision": "bf16"},
    ],
)
def test_what_is_said_beforehand_is_what_is_made(random_weights: Weights, chosen: dict) -> None:
    settings = replace(COMPILED, **chosen)
    if reason := unavailable_reason(settings.engine, CPU):
        pytest.skip(reason)
    choice = choose(settings)
    content, style, image = pictures(20, 24)
    made = create_engine(
        random_weights, content, style, replace(settings, precision=choice.precision)
    )
    assert (choice.device, choice.engine) == (CPU, made.name)
    assert (choice.precision, choice.provider) == (made.precision, made.provider)
    evaluation = made.evaluate(image)
    assert evaluation.precision == made.resume([float(evaluation.terms.total)])


def test_engines_say_how_they_may_be_used(random_weights: Weights) -> None:
    content, style, _ = pictures(20, 24)
    for engine in ("torch", "native", "onnx"):
        if unavailable_reason(engine, CPU):
            continue
        made = create_engine(random_weights, content, style, replace(COMPILED, engine=engine))
        assert not made.capturable
        assert not made.device_only


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "native"}, "^engine native cannot run: it was not built$"),
        ({"engine": "onnx", "precision": "mixed"}, "^engine onnx does not change its precision"),
    ],
)
def test_a_choice_that_cannot_run_is_named(
    settings: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extension, "is_available", lambda: False)
    monkeypatch.setattr(extension, "unavailable_reason", lambda: "it was not built")
    assert choose(COMPILED).engine == "torch"
    with pytest.raises(BackendUnavailable, match=message):
        choose(replace(COMPILED, **settings))


def test_a_gpu_gets_the_plan_whatever_is_compiled(random_weights: Weights, monkeypatch) -> None:
    """``meta`` stands for a device that is no CPU: what is built there, not what it computes."""
    assert unavailable_reason("native", torch.device("cuda")) is None
    chosen = []

    def built(*arguments: Any, **_: Any) -> Any:
        chosen.append(arguments[4])
        return SimpleNamespace(
            layers=("relu1_1",), normalize=SimpleNamespace(mean=picture), content={}, style={}
        )

    picture = torch.empty(1, 3, 8, 8, device="meta")
    monkeypatch.setattr(create, "build_objective", built)
    monkeypatch.setattr(create, "PlannedEngine", lambda objective, precision, cache: precision)
    monkeypatch.setattr(cuda, "unavailable_reason", lambda objective, precision: None)
    for engine, precision in itertools.product(("auto", "native"), ("auto", "bf16")):
        settings = Settings(engine=engine, precision=precision)
        made = create_engine(random_weights, picture, picture, settings)
        assert made == ("bf16" if precision == "bf16" else "fp32")
    assert chosen == ["torch"] * 4  # nothing compiled is asked for beforehand
    with pytest.raises(BackendUnavailable, match="int16 are for engine native on a CPU"):
        create_engine(random_weights, picture, picture, Settings(precision="int16"))
    monkeypatch.setattr(cuda, "unavailable_reason", lambda objective, precision: "it is too old")
    with pytest.raises(BackendUnavailable, match="engine native cannot run: it is too old"):
        create_engine(random_weights, picture, picture, Settings(engine="native"))


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_a_loss_may_be_a_constant(random_weights: Weights, engine: str) -> None:
    class Off(LayerLoss):
        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features.new_zeros(())

    image, content, style = pictures(24, 32)
    settings = replace(COMPILED, engine=engine)
    if unavailable_reason(engine, CPU):
        pytest.skip("not here")
    objective = build_objective(random_weights, content, style, settings)
    objective.style[next(iter(objective.style))] = Off()
    found = engine_of(objective, (24, 32), settings).evaluate(image)
    assert bool(found.gradient.isfinite().all())


@pytest.mark.parametrize(
    ("content", "style", "message"),
    [
        ((3, 24, 32), (1, 3, 24, 32), r"content has shape \(3, 24, 32\)"),
        ((1, 3, 24, 32), (3, 24, 32), r"style has shape \(3, 24, 32\)"),
        ((1, 3, 24, 32), (2, 3, 24, 32), r"style has shape \(2, .*give several styles as a list"),
    ],
)
def test_pictures_of_another_shape_are_named(
    random_weights: Weights, content: tuple[int, ...], style: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        create_engine(random_weights, torch.rand(content), torch.rand(style), COMPILED)
    levels = torch.zeros(1, 3, 24, 32, dtype=torch.uint8)
    with pytest.raises(InvalidInput, match="uint8"):
        create_engine(random_weights, levels, torch.rand(1, 3, 24, 32), COMPILED)
