"""The cells of a sheet: the pictures and the settings of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastnst.errors import InvalidInput
from fastnst.settings.settings import SPECS, Settings
from fastnst.settings.spec import NETWORK
from fastnst.sheet.axes import PICTURES, Axis

if TYPE_CHECKING:
    from fastnst.images.decode import Picture
    from fastnst.images.large import DecodedRows
    from fastnst.inputs.pictures import Styles

# What the network or its targets depend on: where that changes, they are made anew.
_NETWORKS = {"preset", "content_layers", "style_layers", "statistics"}


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet.

    Attributes:
        row: Its row, from 0.
        column: Its column, from 0.
        content: Its content picture, as for ``stylize``.
        style: Its style picture or pictures.
        settings: The settings of its run.
        name: What it differs in from others, for people: ``strength 0.2, style waves``.
    """

    row: int
    column: int
    content: Picture | DecodedRows
    style: Styles
    settings: Settings
    name: str


def make_cells(
    content: Picture | DecodedRows,
    style: Styles | None,
    axes: Sequence[Axis],
    make: Callable[[Mapping[str, Any]], Settings],
) -> list[Cell]:
    """The cells of a sheet in the order in which they are best made.

    That is row by row; or column by column, where another network is needed for each column.

    Args:
        content: The content picture of all cells, unless it is varied.
        style: The style picture or pictures of all cells, unless they are varied.
        axes: Rows and columns, or columns alone.
        make: The settings with some of them replaced, ``{name: value}``; ``preset`` may be there.

    Raises:
        InvalidInput: for settings that do not go together, and if there is no style.
    """
    if style is None and not any(axis.name == "style" for axis in axes):
        raise InvalidInput("there is no style: name a picture, or vary style")
    *above, across = axes
    cells = []
    for row, down in enumerate(_values(above[0]) if above else [({}, "")]):
        for column, along in enumerate(_values(across)):
            values = {**down[0], **along[0]}
            changes = {name: value for name, value in values.items() if name not in PICTURES}
            name = ", ".join(filter(None, (down[1], along[1])))
            its: dict[str, Any] = {"content": content, "style": style, **values}
            cells.append(Cell(row, column, its["content"], its["style"], make(changes), name))
    if across.name in _NETWORKS or (across.name in SPECS and SPECS[across.name].group == NETWORK):
        cells.sort(key=lambda cell: (cell.column, cell.row))
    return cells


def _values(axis: Axis) -> list[tuple[dict[str, Any], str]]:
    return [
        ({axis.name: value}, label) for value, label in zip(axis.values, axis.labels, strict=True)
    ]
