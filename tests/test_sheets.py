"""What a sheet takes is the sum of its cells; those that take the same are tried once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

import fastnst
from fastnst import sheets
from fastnst.estimate import Estimate
from fastnst.settings.settings import Settings
from fastnst.sheet.axes import make_axes
from fastnst.sheet.cells import make_cells
from fastnst.sheets import estimate_cells


@pytest.mark.parametrize(
    ("vary", "trials"),
    [
        ({"style_weight": (1, 2, 3), "seed": (1, 2)}, 1),
        ({"style_weight": (0, 1, 2)}, 2),
        ({"iterations": (10, 20)}, 2),
        ({"style": ("a.png", "b.png"), "size": (32, 64)}, 4),
    ],
    ids=str,
)
def test_a_trial_for_each_that_differs(
    monkeypatch: pytest.MonkeyPatch, vary: Mapping[str, Any], trials: int
) -> None:
    tried: list[Settings] = []

    def estimate(content: Any, style: Any, settings: Settings, resources: Any) -> Estimate:
        tried.append(settings)
        return Estimate(1, 1, 7, None, settings.iterations, "torch", "cpu")

    monkeypatch.setattr(sheets, "estimate", estimate)
    cells = make_cells(
        "c.png", "s.png", make_axes(vary), lambda changes: fastnst.make_settings("gatys", changes)
    )
    found = estimate_cells(cells)
    assert len(tried) == trials
    assert [one.seconds for one in found] == [cell.settings.iterations for cell in cells]
