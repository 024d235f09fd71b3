"""What is prepared once, for runs, estimates and exports."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fastnst import InvalidInput, load_pictures
from fastnst.cache import Cache
from fastnst.fingerprint import sha256_of_file
from fastnst.network.weights import Weights
from fastnst.run import prepare
from fastnst.run.memory import Need
from fastnst.run.pieces import WHOLE, Plan
from fastnst.run.resources import Resources
from fastnst.run.run import run
from fastnst.settings.presets import PRESETS, make_settings
from fastnst.settings.settings import Settings
from helpers.pictures import smooth

CONTENT, STYLE = smooth(48, 36), smooth(40, 44, seed=1)
SMALL = {"style_layers": ("relu1_1",), "content_layers": ("relu2_1",), "device": "cpu"}


def test_a_preparation_has_the_scales_and_the_size_of_the_result() -> None:
    settings = Settings(size=64, min_size=20, iterations=3, engine="torch", **SMALL)
    prepared = prepare.prepare(CONTENT, STYLE, settings)
    assert [scale.size for scale in prepared.schedule] == [32, 64]
    assert (prepared.width, prepared.height) == (64, 48)
    assert prepared.device == torch.device("cpu")
    for scale in prepared.schedule:
        pictures = prepared.pictures(scale)
        assert pictures.start.shape[-1] == scale.size
        engine = prepared.engine(pictures)
        assert engine.name == "torch"
        assert float(engine.evaluate(pictures.start).terms.total) > 0


def test_memory_is_checked_once_and_before_the_weights_are_read(monkeypatch) -> None:
    checked = []

    def check(need: Need, *_: object) -> Plan:
        checked.append((need.width, need.height))
        return WHOLE

    monkeypatch.setattr(prepare, "make_plan", check)
    settings = Settings(size=64, min_size=20, **SMALL)
    prepared = prepare.prepare(CONTENT, STYLE, settings)
    for scale in prepared.schedule:
        prepared.pictures(scale)
    assert checked == [(64, 48)]

    def refuse(*_: object) -> None:
        raise InvalidInput("too large")

    monkeypatch.setattr(prepare, "make_plan", refuse)
    monkeypatch.setattr(prepare, "load_weights", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(InvalidInput, match="too large"):
        prepare.prepare(CONTENT, STYLE, settings)
    with pytest.raises(InvalidInput, match="too large"):
        load_pictures(CONTENT, STYLE, settings, 64)


def test_the_weights_are_read_once_for_all_runs_of_a_cache(monkeypatch) -> None:
    real, reads = prepare.load_weights, []
    monkeypatch.setattr(prepare, "load_weights", lambda *a: reads.append(a) or real(*a))
    cache = Cache()
    for size in (32, 40):
        prepare.prepare(CONTENT, STYLE, Settings(size=size, **SMALL), cache=cache)
    assert len(reads) == 1


def test_a_file_of_weights_that_has_changed_is_read_again(tmp_path, random_weights) -> None:
    path, cache = tmp_path / "weights.safetensors", Cache()
    settings = Settings(size=48, weights=str(path), **SMALL)

    def loaded() -> Weights:
        return prepare.prepare(CONTENT, STYLE, settings, cache=cache).weights

    def write(factor: float) -> None:
        tensors = {name: factor * x for name, x in random_weights.tensors.items()}
        save_file(tensors, path, {"preprocessing": "torchvision"})
        os.utime(path, (0, factor))  # some file systems have whole seconds

    write(1)
    first = loaded()
    assert loaded() is first
    write(2)
    assert first.sha256 != loaded().sha256 == sha256_of_file(path)


def test_strength_becomes_weights_once() -> None:
    settings = Settings(size=48, strength=0.25, seed=3, **SMALL)
    prepared = prepare.prepare(CONTENT, STYLE, settings)
    assert prepared.settings.style_weight == pytest.approx(10 / 9)
    assert (prepared.settings.content_weight, prepared.settings.strength) == (1, 0.5)
    engine = prepared.engine(prepared.pictures(prepared.schedule[0]))
    own = Settings(size=48, style_weight=10 / 9, seed=3, **SMALL)
    other = prepare.prepare(CONTENT, STYLE, own)
    pictures = other.pictures(other.schedule[0])
    expected = float(other.engine(pictures).evaluate(pictures.start).terms.total)
    # one rounding of the weight
    assert float(engine.evaluate(pictures.start).terms.total) == pytest.approx(expected, rel=1e-6)


def test_without_any_style_a_run_starts_from_the_photograph() -> None:
    settings = Settings(strength=0, size=48, **SMALL)
    prepared = prepare.prepare(CONTENT, STYLE, settings)
    pictures = prepared.pictures(prepared.schedule[0])
    assert torch.equal(pictures.start, pictures.content)
    loaded = load_pictures(CONTENT, STYLE, settings, 48)
    assert torch.equal(loaded.start, loaded.content)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_strength_0_is_the_photograph_whatever_the_preset(preset: str) -> None:
    """To the bit: no variation smooths it, no scale blurs it, no step follows a rounding."""
    content = smooth(64, 48)
    settings = make_settings(preset, {
        "strength": 0, "size": 64, "weights": "vgg19-normalised", "preprocessing": "auto",
        **({} if PRESETS[preset].min_size is None else {"min_size": 32}),
    })  # fmt: skip
    result = run(content, STYLE, settings)
    assert np.array_equal(result.pixels, content.astype(np.float32) / 255)
    assert [(scale.width, scale.height) for scale in result.scales] == [(64, 48)]


@pytest.mark.parametrize("form", [list, tuple, lambda masks: masks[0]])
def test_masks_are_named_by_anything_that_is_a_picture(form) -> None:
    white = np.ones((24, 32, 3), np.float32)
    settings = Settings(size=32, engine="torch", **SMALL)
    prepared = prepare.prepare(CONTENT, STYLE, settings, style_masks=form([white]))
    assert prepared.pictures(prepared.schedule[-1]).regions
    for none in ([], ()):
        prepared = prepare.prepare(CONTENT, STYLE, settings, style_masks=none)
        assert prepared.pictures(prepared.schedule[-1]).regions is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("tv_weight", 1e39, "a number from 0 to"),
        ("learning_rate", 1e39, "a number from 0 to"),
        ("style_scale", (1e300,), "above 0, up to 1000"),
    ],
)
def test_numbers_that_float32_has_no_room_for_are_refused(name, value, expected: str) -> None:
    with pytest.raises(InvalidInput, match=f"{name} is .*: expected .*{expected}"):
        Settings(**{name: value})


def test_a_scratch_file_of_the_last_scale_is_looked_for_at_once(monkeypatch, tmp_path) -> None:
    plan = replace(WHOLE, scratch=tmp_path)
    monkeypatch.setattr(prepare, "make_plan", lambda *_: plan)
    asked = []
    monkeypatch.setattr(prepare, "check_scratch", lambda _, needed=0: asked.append(needed))
    settings = Settings(size=64, min_size=20, **SMALL)
    prepared = prepare.prepare(CONTENT, STYLE, settings, resources=Resources(scratch=tmp_path))
    assert max(asked) >= prepared.need_at(prepared.schedule[-1]).mapped() > 0
