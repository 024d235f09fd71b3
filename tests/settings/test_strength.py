"""The setting ``strength``: one number for the weights' ratio, the same in every preset."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastnst import InvalidInput, Settings, make_settings
from fastnst.settings.presets import PRESETS


def ratio(settings: Settings) -> float:
    return settings.style_weight / settings.content_weight


@pytest.mark.parametrize("preset", list(PRESETS))
def test_the_middle_is_the_preset(preset: str) -> None:
    assert make_settings(preset, {"strength": 0.5}) == PRESETS[preset]
    assert PRESETS[preset].balanced() is PRESETS[preset]


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("strength", [0.1, 0.3, 0.75, 0.99])
def test_the_ratio_is_multiplied(preset: str, strength: float) -> None:
    made = make_settings(preset, {"strength": strength}).balanced()
    own = PRESETS[preset]
    assert ratio(made) == pytest.approx(ratio(own) * (strength / (1 - strength)) ** 2)
    assert made.style_weight <= own.style_weight
    assert made.content_weight <= own.content_weight
    assert made.strength == 0.5
    assert made.balanced() is made  # once and no more
    assert replace(made, iterations=3).balanced().style_weight == made.style_weight
    assert made.init == own.init


def test_opposite_strengths_are_opposite() -> None:
    less, more = (Settings(strength=s).balanced() for s in (0.2, 0.8))
    assert ratio(less) * ratio(more) == pytest.approx(ratio(Settings()) ** 2)


def test_the_ends_are_one_picture_alone() -> None:
    none = make_settings("fast", {"strength": 0}).balanced()
    assert (none.style_weight, none.content_weight, none.init) == (0, 1, "content")
    assert (none.tv_weight, none.min_size, none.iterations) == (0, None, 0)
    every = make_settings("fast", {"strength": 1}).balanced()
    assert (every.style_weight, every.content_weight, every.init) == (10, 0, "matched")


def test_weights_go_on_counting() -> None:
    """Nothing wins: the strength moves the ratio from where the weights put it."""
    made = Settings(strength=0.8, style_weight=3.0, content_weight=2.0).balanced()
    assert ratio(made) == pytest.approx(3 / 2 * 16)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "0.5", True])
def test_what_is_no_strength(value: object) -> None:
    with pytest.raises(InvalidInput, match="strength is .*: expected a number from 0 to 1"):
        make_settings("gatys", {"strength": value})


def test_nothing_left_to_optimise() -> None:
    with pytest.raises(InvalidInput, match="every weight is 0 at strength 1"):
        Settings(strength=1, style_weight=0.0)
    with pytest.raises(InvalidInput, match="every weight is 0 at strength 0"):
        Settings(strength=0, content_weight=0.0)
    with pytest.raises(InvalidInput, match="every weight is 0 at strength 0"):
        Settings(strength=0, content_weight=0.0, tv_weight=1.0)
    assert Settings(strength=1, style_weight=0.0, tv_weight=1.0).balanced().content_weight == 0


def test_only_no_strength_at_all_starts_from_the_photograph() -> None:
    """Not a run that has no style for another reason, as a reconstruction."""
    for strength in (0.0, 0.2, 0.4, 0.6, 0.9):
        made = Settings(strength=strength, style_weight=0.0).balanced()
        assert made.init == ("content" if strength == 0 else "noise")
        assert made.iterations == (0 if strength == 0 else 300)
