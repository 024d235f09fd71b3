"""The page's controls: one for each setting, from its ``Spec``."""

from __future__ import annotations

import json

import pytest

gr = pytest.importorskip("gradio")

from fastnst.errors import InvalidInput
from fastnst.settings.presets import PRESETS
from fastnst.settings.settings import SPECS, Settings
from fastnst.ui import controls
from fastnst.ui.limits import Limits
from fastnst.ui.studio import Studio
from fastnst.ui.studio_page import studio_page

OWN = Settings()


def test_every_setting_has_a_control() -> None:
    assert set(controls.NAMES) == set(SPECS)
    assert len(controls.NAMES) == len(SPECS)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_goes_into_the_controls_and_comes_out_again(preset) -> None:
    settings = PRESETS[preset]
    values = json.loads(json.dumps(controls.to_controls(settings)))  # as through a browser
    assert controls.from_controls(values, OWN) == settings


def test_the_command_s_settings_are_the_page_s_first_values() -> None:
    own = Settings(size=512, style_weight=500, tv_weight=100, style_layers=("relu1_1",))
    page = studio_page(Studio(Limits(), own))
    shown = {
        part["props"].get("elem_id"): part["props"].get("value")
        for part in page.config["components"]
    }
    assert shown["setting-size"] == "512"  # a text: it may be empty
    assert shown["setting-style_weight"] == 500
    assert shown["setting-tv_weight"] == 100
    assert shown["setting-style_layers"] == "relu1_1"
    assert shown["setting-iterations"] == 300


def test_a_number_that_may_be_left_out_is_empty_not_zero() -> None:
    page = studio_page(Studio(Limits(), OWN))
    kinds = {part["props"].get("elem_id"): part for part in page.config["components"]}
    for name in ("size", "style_size", "min_size"):
        part = kinds[f"setting-{name}"]
        assert part["type"] == "textbox"  # Gradio's box for numbers sends 0 when it is shown empty
        assert part["props"].get("value") is None
        assert part["props"]["placeholder"] == f"empty: {SPECS[name].none}"
    assert kinds["setting-scale_iterations"]["props"]["placeholder"] == "empty: iterations"
    assert kinds["setting-tv_weight"]["props"]["label"] == "TV weight"
    empty = ["" if value is None else value for value in controls.to_controls(OWN)]
    assert controls.from_controls(empty, OWN) == OWN


def test_labels_are_unique() -> None:
    page = studio_page(Studio(Limits(), OWN))
    labels = [
        part["props"]["value"] if part["type"] == "button" else part["props"].get("label")
        for part in page.config["components"]
    ]
    labels = [label for label in labels if label]
    assert len(labels) > 40
    assert len(labels) == len(set(labels)), sorted(x for x in labels if labels.count(x) > 1)


@pytest.mark.parametrize("name", SPECS)
def test_any_value_is_settings_or_one_line(name) -> None:
    """As a program that talks to the server may send them."""
    for value in (None, "", "  ", "x", "1e999", -1, 1e308, True, [], [[1]], {"a": 1}, "NaN",
                  "9" * 5000, "../../etc/passwd", "/etc/passwd", "\0", "1,2,x", 10**400,
                  0.5):  # fmt: skip
        values = controls.to_controls(OWN)
        values[controls.NAMES.index(name)] = value
        said = ""
        try:
            assert isinstance(controls.from_controls(values, OWN), Settings)
        except InvalidInput as error:
            said = str(error)
        assert "\n" not in said


def test_the_server_s_files_are_no_choice_and_are_not_told_from_missing_ones(tmp_path) -> None:
    there = tmp_path / "there.png"
    there.write_bytes(b"x")
    said = set()
    for name in ("init", "weights"):
        for path in (there, tmp_path / "missing.png"):
            values = controls.to_controls(OWN)
            values[controls.NAMES.index(name)] = str(path)
            with pytest.raises(InvalidInput, match="on this page choose one of") as refused:
                controls.from_controls(values, OWN)
            said.add(str(refused.value))
    assert len(said) == 2  # one for each setting
    own = Settings(init=str(there))  # what the page was started with may be chosen
    assert controls.from_controls(controls.to_controls(own), own).init == str(there)
