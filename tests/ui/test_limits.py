"""What visitors may ask for: at least what the page begins with, and what its presets are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fastnst.cli.ui import MOST_MEGAPIXELS
from fastnst.errors import InvalidInput
from fastnst.images.large import LARGEST
from fastnst.settings.presets import PRESETS, make_settings
from fastnst.ui.limits import Limits


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "limits", [Limits(), Limits(size=300, iterations=40), Limits(iterations=1)], ids=str
)
def test_a_preset_may_be_asked_for_as_far_as_the_page_goes(preset: str, limits: Limits) -> None:
    allowed = limits.within(PRESETS[preset])
    limits.check(allowed, 300, 300)
    limits.check(allowed, 4000, 3000)  # a size of 0 is the content's own
    if limits == Limits():
        own = PRESETS[preset]
        assert allowed == (own if own.size != 0 else replace(own, size=limits.size))


@pytest.mark.parametrize(
    ("preset", "changes"),
    [
        ("crowsonkb", {}),
        ("crowsonkb", {"size": 1000, "iterations": 1500}),
        ("fast", {"style_size": 2048}),
        ("fast", {"style_scale": (1.0, 5.0)}),
        ("fast", {"size": 1024, "min_size": 256, "scale_iterations": (1500,)}),
    ],
)
def test_what_the_page_begins_with_is_allowed(preset: str, changes: dict[str, Any]) -> None:
    own = make_settings(preset, changes)
    size, iterations = max(1024, own.size or 0), max(1000, own.iterations)
    Limits(size=size, iterations=iterations, own=own).check(own, 768, 768)


def test_more_than_the_page_begins_with_is_refused() -> None:
    own = make_settings("fast", {"style_size": 2048, "style_scale": (5.0,)})
    for changes, message in (
        ({"style_size": 2049}, "style_size is 2049: this page allows 2048"),
        ({"style_scale": (5.5,)}, "style_scale is 5.5: this page allows 5"),
        ({"size": 1025}, "size is 1025: this page allows 1024"),
    ):
        with pytest.raises(InvalidInput, match=message):
            Limits(own=own).check(make_settings("fast", changes), 768)


def test_few_iterations_are_few_at_each_scale() -> None:
    """The schedules of presets count with no more at a scale than a run may have."""
    asked = make_settings("crowsonkb", {"iterations": 10, "scale_iterations": (500,)})
    with pytest.raises(InvalidInput, match="over all scales is 2010: this page allows 50"):
        Limits(iterations=10).check(asked, 768)


def test_uploads_are_limited_to_what_is_decoded() -> None:
    assert int(LARGEST / 1e6) == MOST_MEGAPIXELS
