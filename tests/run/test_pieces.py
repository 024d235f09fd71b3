"""A run in strips: the same picture as whole, and resumed with the strips that it began with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fastnst.run import pieces
from fastnst.run.checkpoint import Checkpoints, load_checkpoint
from fastnst.run.memory import Need, estimate
from fastnst.run.run import run
from fastnst.settings.settings import Settings
from fastnst.strips.geometry import Grid
from helpers.pictures import smooth

CPU = torch.device("cpu")
SHALLOW = {"content_layers": ("relu2_2",), "style_layers": ("relu1_1", "relu2_1")}


def settings(**further) -> Settings:
    return Settings(size=0, engine="torch", iterations=3, **SHALLOW, **further)


def test_a_run_in_strips_is_the_run(tmp_path: Path) -> None:
    content, style = smooth(36, 300), smooth(40, 44, seed=1)
    whole = run(content, style, settings())
    limit = estimate(Need(36, 300, settings())) - 1
    path = tmp_path / "run.fnst"
    cut = run(content, style, settings(), checkpoints=Checkpoints(path, 2), memory_limit=limit)
    # Float32 sums in another order; three steps amplify their rounding.
    for a, b in zip(whole.history, cut.history, strict=True):
        assert a.total == pytest.approx(b.total, rel=1e-3)
    assert load_checkpoint(path).identity.made_from["strips"].startswith("36×")
    # More memory is free when the run goes on: it keeps to its strips.
    again = run(content, style, settings(), resume=path)
    assert [x.total for x in again.history] == [x.total for x in cut.history]


def test_a_grid_is_written_down_and_read() -> None:
    given = settings()
    cuts = pieces.cuts(given, CPU)
    for grid in (Grid.cut(300, 36, cuts, 96), Grid.cut(300, 236, cuts, 96, 64)):
        text = pieces.name(grid)["strips"]
        assert pieces.restored(text, grid.height, grid.width, given, CPU) == grid
    assert pieces.name(Grid.cut(300, 36, cuts)) == {}
    assert pieces.restored(None, 300, 36, given, CPU) is None
