"""What a preset that is chosen on the page leaves as it is."""

from __future__ import annotations

import pytest

from fastnst.settings.presets import PRESETS, make_settings
from fastnst.settings.settings import Settings
from fastnst.ui.limits import Limits
from fastnst.ui.machine import kept_by
from fastnst.ui.studio import Studio

MACHINE = {"engine", "provider", "device", "precision"}


@pytest.mark.parametrize("preset", PRESETS)
def test_what_belongs_to_the_machine_is_kept(preset: str) -> None:
    own = make_settings(preset, {"size": 400, "engine": "torch", "iterations": 20})
    assert set(kept_by(own)) == MACHINE


def test_weights_that_the_page_was_started_with_are_kept_with_their_input() -> None:
    for weights in ("vgg19", "torchvision", "my.pth"):
        own = make_settings("fast", {"weights": weights, "preprocessing": "caffe"})
        assert set(kept_by(own)) == {*MACHINE, "weights", "preprocessing"}


@pytest.mark.parametrize("weights", ["vgg19-normalised", "vgg19"])
def test_a_preset_on_the_page(weights: str) -> None:
    gr = pytest.importorskip("gradio")
    from fastnst.ui.controls import NAMES, to_control
    from fastnst.ui.studio_page import studio_page

    own = Settings(size=300, weights=weights, precision="fp32", engine="torch")
    page = studio_page(Studio(Limits(size=300), own))
    choose = next(each for each in page.fns.values() if each.api_name == "preset")
    values = dict(zip(NAMES, choose.fn("crowsonkb"), strict=True))
    left = {name for name, value in values.items() if value == gr.skip()}
    assert left == MACHINE | ({"weights", "preprocessing"} if weights == "vgg19" else set())
    assert values.pop("size") == 300  # of 512: as far as the page goes
    for name in values.keys() - left:
        assert values[name] == to_control(getattr(PRESETS["crowsonkb"], name))
