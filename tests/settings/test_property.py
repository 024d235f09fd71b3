"""Any value in any setting: an error of our own in one line, or plain settings."""

from __future__ import annotations

import json
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fastnst.errors import FastNSTError, InvalidInput
from fastnst.settings.config import combine, parse_setting, read_config, write_config
from fastnst.settings.presets import PRESETS, make_settings
from fastnst.settings.settings import CHOICES, SPECS, Settings

NAMES = [field.name for field in fields(Settings)]
TEXTS = sorted({text for choices in CHOICES.values() for text in choices})
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**4000, -(10**400), 2**63, 0, 1, 100]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([*TEXTS, "relu1_1", "noise", "cuda:0", "a\0b", "\ud800"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(is_plain(one) for one in value)
    return value is None or type(value) in (int, float, str)


@hypothesis_settings(deadline=None, max_examples=400)
@given(name=st.sampled_from(NAMES), value=JSON, preset=st.sampled_from(list(PRESETS)))
def test_any_json_value_in_any_setting(name: str, value: object, preset: str) -> None:
    try:
        made = make_settings(preset, {name: value})
    except FastNSTError as error:
        message = str(error)
    else:
        assert all(is_plain(one) for one in made.to_dict().values())
        assert Settings(**json.loads(json.dumps(made.to_dict()))) == made
        made.layer_weights(), made.content_weights()
        return
    assert "\n" not in message
    assert len(message) < 400


@hypothesis_settings(deadline=None, max_examples=200)
@given(
    name=st.sampled_from(NAMES),
    text=st.one_of(
        st.text(max_size=30),
        st.text("0123456789,.-e ", max_size=12),
        st.sampled_from(["nan", "inf", "1e999", "9" * 5000, "relu1_1,relu1_1", ",", *TEXTS]),
    ),
)
def test_any_text_in_any_setting(name: str, text: str) -> None:
    try:
        value = parse_setting(name, text)
    except FastNSTError as error:
        message = str(error)
    else:
        message = ""
        assert is_plain(value)
    assert "\n" not in message


@pytest.mark.parametrize(
    "value",
    [
        lambda: object(), lambda: b"bytes", lambda: {1, 2}, dict, lambda: [[]], lambda: [[1]],
        lambda: np.zeros((2, 2)), lambda: np.array(3), lambda: np.nan, lambda: np.bool_(True),
        lambda: Decimal(1), lambda: 1j, lambda: Path("x\0y"), lambda: type, lambda: len,
        lambda: range(10**9), lambda: iter(int, 1), lambda: (n for n in ["a", object()]),
        lambda: (1 / 0 for _ in range(1)),
    ],
)  # fmt: skip
def test_objects_of_python_in_any_setting(value) -> None:
    for name in NAMES:
        try:
            made = make_settings("gatys", {name: value()})
        except FastNSTError as error:
            message = str(error)
        else:
            assert is_plain(getattr(made, name)), name
            continue
        assert "\n" not in message
        assert name in message


@pytest.mark.parametrize("toml", ["[[a]]\n", "a.b.c = 1\n", "a = " + "[" * 5000 + "\n", "\0"])
def test_any_toml(tmp_path: Path, toml: str) -> None:
    for name in ("size", "style-layers", "init"):
        path = tmp_path / "run.toml"
        path.write_text(toml.replace("a", name), "utf-8")
        with pytest.raises(InvalidInput, match=r"run\.toml") as caught:
            read_config(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600


def test_numbers_of_numpy_and_paths_become_plain() -> None:
    made = Settings(
        size=np.int64(64),
        style_weight=np.float32(0.5),
        content_weight=Fraction(1, 4),
        pooling=np.str_("max"),
        style_layer_weights=np.ones(5),
        style_layers=iter(["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]),
        init=Path("a") / "b.png",
        weights=Path("w.pth"),
    )
    assert all(is_plain(one) for one in made.to_dict().values())
    assert (made.size, made.style_weight, made.content_weight) == (64, 0.5, 0.25)
    assert (made.init, made.weights) == (str(Path("a") / "b.png"), "w.pth")
    assert made.style_layer_weights == (1.0,) * 5
    assert json.loads(json.dumps(made.to_dict()))["style_layers"][0] == "relu1_1"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"seed": 10**600}, r"seed is 10+….*: expected a whole number from 0 to 9223372036854775807"),  # noqa: E501
        ({"seed": 10**6000}, r"seed is a value of type int that cannot be shown"),
        ({"style_layers": []}, r"style_layers is empty: expected a layer's name, or style_weight 0"),  # noqa: E501
        ({"content_layers": []}, r"content_layers is empty: .* content_weight 0, which is 1"),
        ({"style_layers": 5}, "style_layers is 5: expected a list of layer names"),
        ({"style_scale": 2}, "style_scale is 2: expected a list of numbers"),
        ({"statistics": [["gram"]]}, r"statistics is \['gram'\]: choose one of gram"),
        ({"style_weight": True}, "style_weight is True: expected a number from 0 to"),
        ({"style_blend": [1e308, 1e308]}, r"style_blend is 1e\+308"),
        ({"init": np.zeros((4, 4, 3))}, "init is array.*: expected noise, content, matched"),
        ({"iterations": 3.0}, "iterations is 3.0: expected a whole number"),
        ({"device": "cuda:"}, "device is 'cuda:': expected auto, cpu, cuda or cuda:N"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(value: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Settings(**value)


def test_layers_without_a_weight_may_be_none() -> None:
    assert Settings(style_layers=[], style_weight=0).layer_weights() == {}
    assert Settings(content_layers=[], content_weight=0).content_weights() == {}


@hypothesis_settings(deadline=None, max_examples=50)
@given(name=st.sampled_from(NAMES), value=JSON)
def test_what_can_be_set_can_be_written_and_read(tmp_path_factory, name, value) -> None:
    try:
        made = make_settings("gatys", {name: value})
    except FastNSTError:
        return
    path = tmp_path_factory.mktemp("config") / "run.toml"
    try:
        write_config(path, made)
    except InvalidInput as error:
        assert "no text" in str(error)  # noqa: PT017 - a lone surrogate is no text in any file
        return
    assert combine(read_config(path), None, {}) == made


def test_every_setting_has_its_own_help() -> None:
    helps = [of.help for of in SPECS.values()]
    assert all(text.endswith(".") and len(text) <= 75 for text in helps)
    for name, of in SPECS.items():
        assert of.check(name, getattr(Settings(), name)) == getattr(Settings(), name)
