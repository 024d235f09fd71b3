"""Cells: the pictures and settings of each place, in an order that keeps networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fastnst.errors import InvalidInput
from fastnst.settings.config import combine
from fastnst.settings.presets import PRESETS
from fastnst.settings.settings import Settings
from fastnst.sheet.axes import make_axes
from fastnst.sheet.cells import Cell, make_cells


def make(changes: Mapping[str, Any]) -> Settings:
    own = {name: value for name, value in changes.items() if name != "preset"}
    return combine({}, changes.get("preset"), {"iterations": 3, **own})


def cells(vary: Mapping[str, Any], style: Any = "s.png") -> list[Cell]:
    return make_cells("c.png", style, make_axes(vary), make)


def test_two_names_are_rows_and_columns() -> None:
    found = cells({"style_weight": (5, 20), "style": ("a.png", "b.png", "c.png")}, None)
    assert [(cell.row, cell.column) for cell in found] == [
        (i, j) for i in (0, 1) for j in (0, 1, 2)
    ]
    assert [cell.settings.style_weight for cell in found] == [5.0] * 3 + [20.0] * 3
    assert [cell.style for cell in found] == ["a.png", "b.png", "c.png"] * 2
    assert {cell.content for cell in found} == {"c.png"}
    assert {cell.settings.iterations for cell in found} == {3}
    assert found[4].name == "style weight 20, style b"


def test_one_name_is_columns() -> None:
    found = cells({"content": ("a.png", "b.png")})
    assert [(cell.row, cell.column, cell.content) for cell in found] == [
        (0, 0, "a.png"),
        (0, 1, "b.png"),
    ]
    assert {cell.style for cell in found} == {"s.png"}
    assert found[1].name == "content b"


def test_a_preset_is_changed_by_what_is_the_same_in_all_cells() -> None:
    found = cells({"preset": ("gatys", "hires")})
    assert [cell.settings.min_size for cell in found] == [None, PRESETS["hires"].min_size]
    assert {cell.settings.iterations for cell in found} == {3}


@pytest.mark.parametrize(
    "vary",
    [
        {"seed": (1, 2), "pooling": ("average", "max")},
        {"seed": (1, 2), "preset": ("gatys", "fast")},
    ],
    ids=str,
)
def test_columns_that_need_networks_of_their_own_are_made_one_by_one(vary: Mapping) -> None:
    assert [(cell.row, cell.column) for cell in cells(vary)] == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_what_does_not_go_together_is_one_line() -> None:
    with pytest.raises(InvalidInput, match="there is no style"):
        cells({"size": (64,)}, None)
    with pytest.raises(InvalidInput, match="statistics_weights has 2 values for 1 statistics"):
        cells({"statistics_weights": ([1.0], [1.0, 2.0])})
