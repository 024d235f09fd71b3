"""What a sheet will take: the time of its cells together, and the memory of the largest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnst.estimate import Estimate, estimate
from fastnst.run.resources import UNLIMITED, Resources
from fastnst.sheet.cells import Cell

# Settings that change the picture, but not what it takes.
_FREE = ("seed", "learning_rate", "averaging", "style_blend", "content_layer_weights",
         "style_layer_weights", "statistics_weights")  # fmt: skip
_WEIGHTS = ("content_weight", "style_weight", "tv_weight")  # of which 0 alone makes a difference


def estimate_cells(cells: Sequence[Cell], resources: Resources = UNLIMITED) -> list[Estimate]:
    """What each cell will take; cells that take the same are tried once.

    Args:
        cells: Those of a ``Sheet``, in its order.
        resources: What each run may take of the machine.

    Raises:
        InvalidInput: as ``estimate``, and so are the other errors.
    """
    found: dict[Any, Estimate] = {}
    for cell in cells:
        if _key(cell) not in found:
            found[_key(cell)] = estimate(
                *(cell.content, cell.style, cell.settings), resources=resources
            )
    return [found[_key(cell)] for cell in cells]


def _key(cell: Cell) -> tuple[Any, ...]:
    settings = cell.settings.to_dict()
    for name in _FREE:
        settings.pop(name)
    for name in _WEIGHTS:
        settings[name] = bool(settings[name])
    return id(cell.content), id(cell.style), *map(str, settings.values())
