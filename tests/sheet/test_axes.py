"""What is varied: read as the command line reads its options, refused by name in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastnst.errors import InvalidInput
from fastnst.settings.settings import SPECS
from fastnst.sheet.axes import AXES, MOST, Axis, make_axes, read_axes


def test_values_are_read_as_those_of_the_options() -> None:
    rows, columns = read_axes(["style-weight=0.5, 1e2", "--content_layers=relu1_1,relu2_1"])
    assert rows == Axis("style_weight", (0.5, 100.0), ("style weight 0.5", "style weight 100"))
    assert columns.values == (("relu1_1",), ("relu2_1",))
    assert columns.labels == ("content layers relu1_1", "content layers relu2_1")


def test_semicolons_part_values_that_have_commas() -> None:
    (axis,) = read_axes(["style-layers=relu1_1,relu2_1;relu3_1;"])
    assert axis.values == (("relu1_1", "relu2_1"), ("relu3_1",))
    (axis,) = read_axes(["style=a,b.jpg;c.jpg"])
    assert axis.values == ("a,b.jpg", "c.jpg")


def test_labels_are_short_and_tell_values_apart() -> None:
    (axis,) = read_axes(["style=sample:swirl,folder/waves.jpg"])
    assert axis.labels == ("style swirl", "style waves")
    (axis,) = read_axes(["style=a/x.jpg,b/x.jpg"])
    assert axis.labels == ("style a/x.jpg", "style b/x.jpg")
    (axis,) = read_axes(["init=noise,folder/start.png"])
    assert axis.labels == ("init noise", "init start")
    (axis,) = make_axes({"size": (None, np.int64(64))})
    assert axis.values == (None, 64)
    assert axis.labels == (f"size {SPECS['size'].none}", "size 64")
    (axis,) = make_axes({"style": [np.zeros((4, 4, 3)), Path("b.png")]})
    assert axis.labels == ("style 1", "style b")
    (axis,) = make_axes({"style_weight": np.linspace(1, 3, 3)})
    assert axis.values == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "name what to vary"),
        (["size=1", "seed=1", "init=noise"], "3 names are varied, size, seed, init: .* one or two"),
        (["size=64", "size=32"], "size is varied twice"),
        (["size"], "--vary is 'size': expected NAME=VALUE"),
        ([""], "--vary is '': expected NAME=VALUE"),
        (["sise=64"], "unknown setting 'sise'; did you mean size"),
        (["=64"], "unknown setting ''"),
        (["size="], "size is varied over 0 values"),
        (["style= , "], "style is varied over 0 values"),
        (["size=64,sixty"], "size is 'sixty': expected a whole number"),
        (["size=64,-1"], "size is -1: expected a whole number"),
        (["style-weight=1e400"], "style_weight is inf: expected a number from 0 to"),
        (["preset=gatys,gatsy"], "unknown preset 'gatsy'; did you mean gatys"),
        (["optimizer=lbfgs,sgd"], "optimizer is 'sgd': choose one of"),
        ([f"seed={','.join('1' * (MOST + 1))}"], f"varied over {MOST + 1} values: expected 1 to"),
    ],
)
def test_what_cannot_be_varied(texts: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_axes(texts)


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ({"color": "style"}, "color is varied over 'style': expected a list"),
        ({"style": Path("a.jpg")}, "style is varied over .*: expected a list"),
        ({"style": np.zeros((4, 4, 3))}, "style is varied over one picture"),
        ({"size": 64}, "size is varied over 64: expected a list"),
        ({7: (1,)}, "unknown setting 7"),
        ({"seed": (True,)}, "seed is True"),
        ({"preset": (None,)}, "unknown preset None"),
    ],
    ids=str,
)
def test_lists_that_are_none(vary: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make_axes(vary)


@given(
    st.lists(
        st.one_of(st.text(), st.builds("{}={}".format, st.sampled_from(list(SPECS)), st.text())),
        max_size=3,
    )
)
def test_any_text_is_axes_or_one_line(texts: list[str]) -> None:
    try:
        axes = read_axes(texts)
    except InvalidInput as error:
        said = str(error)
    else:
        said = ""
        assert 1 <= len(axes) <= AXES
        assert all(len(axis.values) == len(axis.labels) for axis in axes)
    assert "\n" not in said
