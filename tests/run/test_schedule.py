"""Several scales: their sizes and iterations, and what a run over them reports."""

from __future__ import annotations

import json
import weakref

import numpy as np
import pytest
import torch

import fastnst
from fastnst import Interrupted, InvalidInput
from fastnst.engines.planned.cuda import PlannedEngine
from fastnst.engines.torch_engine import TorchEngine
from fastnst.evaluation import Engine, Evaluation
from fastnst.run.schedule import Scale, make_schedule
from fastnst.settings.presets import PRESETS
from fastnst.settings.settings import Settings
from helpers.pictures import smooth

CONTENT, STYLE = smooth(96, 72), smooth(80, 88, seed=1)
COARSE = {"size": 96, "min_size": 40, "iterations": 5, "scale_iterations": (3,)}


def sizes(settings: Settings, size: int, own: int = 1000) -> list[int]:
    return [scale.size for scale in make_schedule(settings, size, own)]


def test_sizes() -> None:
    assert make_schedule(Settings(), 512, 900) == (Scale(512, 300),)
    assert make_schedule(Settings(), 0, 900) == (Scale(0, 300),)
    assert sizes(Settings(min_size=256), 1024) == [256, 512, 1024]
    assert sizes(Settings(min_size=257), 1024) == [512, 1024]
    assert sizes(Settings(min_size=2000), 1024) == [1024]
    assert sizes(Settings(min_size=128, scale_step=2**0.5), 512) == [128, 181, 256, 362, 512]
    assert sizes(Settings(min_size=300), 0, 1200) == [300, 600, 0]
    assert sizes(Settings(min_size=1, scale_step=1.05), 8)[0] >= 1


def test_iterations() -> None:
    def counts(**settings: object) -> list[int]:
        schedule = make_schedule(Settings(min_size=128, **settings), 1024, 1024)
        return [scale.iterations for scale in schedule]

    assert counts() == [300] * 4
    assert counts(iterations=9) == [9] * 4
    assert counts(scale_iterations=(20,)) == [300, 20, 20, 20]
    assert counts(scale_iterations=(20, 10)) == [300, 20, 10, 10]
    assert counts(scale_iterations=(4, 3, 2, 1)) == [300, 4, 3, 2]


def test_presets_with_scales() -> None:
    schedule = make_schedule(PRESETS["crowsonkb"], 512, 900)
    assert [(s.size, s.iterations) for s in schedule] == [
        (128, 1000), (181, 500), (256, 500), (362, 500), (512, 500)
    ]  # fmt: skip
    assert len(make_schedule(PRESETS["hires"], 1024, 900)) == 3


def test_fast_has_scales_for_large_pictures_alone() -> None:
    fast = PRESETS["fast"]
    assert make_schedule(fast, 512, 1) == (Scale(512, 150),)
    assert make_schedule(fast, 1023, 1) == (Scale(512, 150), Scale(1023, 100))
    assert sizes(fast, 1022) == [1022]
    assert sizes(fast, 5000) == [625, 1250, 2500, 5000]


def test_a_run_over_scales() -> None:
    steps = []
    result = fastnst.stylize(CONTENT, STYLE, **COARSE, callback=steps.append)
    assert result.pixels.shape == (72, 96, 3)
    assert [(s.width, s.height, s.iterations, s.evaluations) for s in result.scales] == [
        (48, 36, 5, 6), (96, 72, 3, 4)
    ]  # fmt: skip
    assert result.iterations == 8
    assert result.evaluations == len(result.history) == len(steps) == 10
    assert [step.iteration for step in steps] == [0, 1, 2, 3, 4, 5, 5, 6, 7, 8]
    assert [step.scale for step in steps] == [1] * 6 + [2] * 4
    assert {(step.iterations, step.scales) for step in steps} == {(8, 2)}
    assert steps[0].image.size == (48, 36)
    assert steps[-1].image.size == (96, 72)
    assert [step.evaluations for step in steps] == list(range(1, 11))
    assert result.losses.total == min(losses.total for losses in result.history[6:])
    record = json.loads(json.dumps(result.to_dict()))
    assert record["scales"][1] == {"width": 96, "height": 72, "iterations": 3, "evaluations": 4}
    assert fastnst.make_settings("gatys", record["settings"]) == result.settings


def test_a_scale_starts_from_the_one_before() -> None:
    """Better than white noise, from which the first scale started, and looking like its picture."""
    steps = []
    fastnst.stylize(CONTENT, STYLE, **COARSE, callback=lambda s: steps.append(s.pixels))
    last, start = steps[5], steps[6]
    small = start.reshape(36, 2, 48, 2, 3).mean((1, 3))
    assert np.abs(small - last).mean() < 0.03


def test_an_interrupt_at_a_later_scale() -> None:
    def stop_at(evaluation: int):
        def callback(step: fastnst.Step) -> None:
            if step.evaluations == evaluation:
                raise KeyboardInterrupt

        with pytest.raises(Interrupted) as caught:
            fastnst.stylize(CONTENT, STYLE, **COARSE, callback=callback)
        return caught.value.result

    first, second = stop_at(4), stop_at(8)
    assert first.pixels.shape == (36, 48, 3)
    assert second.pixels.shape == (72, 96, 3)
    assert (second.iterations, second.evaluations) == (6, 8)
    assert [s.iterations for s in second.scales] == [5, 1]


def test_memory_is_that_of_the_last_scale(monkeypatch) -> None:
    from fastnst.run import available

    monkeypatch.setattr(available, "available", lambda device: 2**30)
    heard = []
    with pytest.raises(InvalidInput, match="a 2000×1500 picture needs .* [GM]iB"):
        fastnst.stylize(CONTENT, STYLE, size=2000, min_size=48, callback=heard.append)
    assert not heard


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_size": 0}, "min_size is 0"),
        ({"scale_step": 1.0}, "scale_step is 1.0: expected a ratio"),
        ({"scale_iterations": ()}, r"scale_iterations is \(\)"),
        ({"scale_iterations": (1.5,)}, "scale_iterations is 1.5"),
        ({"averaging": 1.0}, "averaging is 1.0"),
        ({"learning_rate": -1.0}, "learning_rate is -1"),
        ({"color": "keep"}, "color is 'keep': choose one of style, original"),
    ],
)
def test_bad_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        fastnst.stylize(CONTENT, STYLE, **settings)


def test_hires_goes_to_any_size() -> None:
    """A scale takes four times as long an iteration, and at most about twice as long in all."""
    schedule = make_schedule(PRESETS["hires"], 16384, 900)
    assert [(s.size, s.iterations) for s in schedule] == [
        (256, 300), (512, 150), (1024, 75), (2048, 40), (4096, 20), (8192, 10), (16384, 10)
    ]  # fmt: skip
    assert make_schedule(PRESETS["hires"], 1024, 900) == schedule[:3]


@pytest.mark.parametrize("device_leads", [False, True])
def test_an_engine_goes_with_its_scale(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, device_leads: bool
) -> None:
    """Its features would take as much memory as the next scale has been given."""
    if device_leads:
        request.getfixturevalue("as_on_a_gpu")
    engine = PlannedEngine if device_leads else TorchEngine
    evaluate = engine.evaluate
    alive: weakref.WeakSet[object] = weakref.WeakSet()
    counts: list[int] = []

    def counted(self: Engine, image: torch.Tensor) -> Evaluation:
        alive.add(self)
        counts.append(len(alive))
        return evaluate(self, image)

    monkeypatch.setattr(engine, "evaluate", counted)
    name = "native" if device_leads else "torch"
    layers = {"style_layers": ("relu1_1",), "content_layers": ("relu2_1",)}
    asked = {"size": 48, "min_size": 12, "iterations": 2, "scale_iterations": (1,), **layers}
    fastnst.stylize(smooth(48, 36), smooth(40, 44, seed=1), engine=name, precision="fp32", **asked)
    assert len(counts) == 3 + 2 * 2
    assert set(counts) == {1}
