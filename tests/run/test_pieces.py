"""A run in strips: the same picture as whole, and resumed with the strips that it began with."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fastnst import devices
from fastnst.errors import InvalidInput, OutputFailed
from fastnst.run import pieces, preparation
from fastnst.run.available import LIBRARIES
from fastnst.run.checkpoint import Checkpoints, load_checkpoint
from fastnst.run.ending import Unsaved
from fastnst.run.memory import Need, estimate
from fastnst.run.planning import make_plan
from fastnst.run.resources import Resources
from fastnst.run.result import Result
from fastnst.run.run import run
from fastnst.run.step import Step
from fastnst.settings.settings import Settings
from fastnst.strips.geometry import Grid, Spacing
from helpers.pictures import smooth

CPU = torch.device("cpu")
SHALLOW = {"content_layers": ("relu2_2",), "style_layers": ("relu1_1", "relu2_1")}


def settings(**further) -> Settings:
    return Settings(size=0, engine="torch", iterations=3, **SHALLOW, **further)


def test_a_run_in_strips_is_the_run(tmp_path: Path) -> None:
    content, style = smooth(36, 300), smooth(40, 44, seed=1)
    whole = run(content, style, settings())
    limit = LIBRARIES + estimate(Need(36, 300, settings())) - 1
    path = tmp_path / "run.fnst"
    cut = run(
        content, style, settings(), checkpoints=Checkpoints(path, 2), resources=Resources(limit)
    )
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


@pytest.fixture
def cut_run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run in strips, with parts of the plan replaced."""

    def go(changes: Mapping[str, Any], scratch: Path | None = None, **further: Any) -> Result:
        content, style = smooth(36, 300), smooth(40, 44, seed=1)
        limit = LIBRARIES + estimate(Need(36, 300, settings())) - 1

        def plan(*arguments: Any) -> pieces.Plan:
            made = make_plan(*arguments)
            return made if made.grid is None else replace(made, **changes)

        monkeypatch.setattr(preparation, "make_plan", plan)
        its = Resources(limit, scratch)
        return run(content, style, settings(), resources=its, **further)

    return go


def test_a_scratch_file_and_recomputed_targets_change_no_bit(
    cut_run: Callable[..., Result], tmp_path: Path
) -> None:
    plain = cut_run({})
    assert plain.strips > 1
    assert plain.to_dict()["strips"] == plain.strips
    peak = plain.to_dict()["peak_bytes"]
    assert peak is None or peak > 10**7
    for changes in ({"scratch": tmp_path}, {"keeps_content": False}):
        other = cut_run(changes)
        assert [x.total for x in other.history] == [x.total for x in plain.history]
        assert (other.pixels == plain.pixels).all()
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_folder_that_is_too_full_is_one_line(
    cut_run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput, match="scratch folder .*nowhere does not exist"):
        cut_run({}, scratch=tmp_path / "nowhere")
    with monkeypatch.context() as patch:
        usage = type("Usage", (), {"free": 10})()
        patch.setattr("fastnst.strips.scratch.shutil.disk_usage", lambda _: usage)
        with pytest.raises(InvalidInput, match="scratch folder .* GB are free, the run needs"):
            cut_run({"scratch": tmp_path})
    calls = []

    def reserve(file: int, at: int, length: int) -> None:
        calls.append(length)
        if len(calls) > 4:  # in the middle of setting up
            raise OSError(errno.ENOSPC, "No space left on device")
        os.truncate(file, at + length)

    monkeypatch.setattr("fastnst.strips.storage._reserve", reserve)
    with pytest.raises(OutputFailed, match="scratch folder .*No space left") as caught:
        cut_run({"scratch": tmp_path})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_folder_that_is_full_after_the_first_step_leaves_the_picture(
    cut_run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The solver asks for its vectors only when it has a gradient."""
    steps: list[Step] = []

    def reserve(file: int, at: int, length: int) -> None:
        if steps:
            raise OSError(errno.ENOSPC, "No space left on device")
        os.truncate(file, at + length)

    monkeypatch.setattr("fastnst.strips.storage._reserve", reserve)
    with pytest.raises(Unsaved, match=r"scratch folder .*\(No space left on device\)") as caught:
        cut_run({"scratch": tmp_path}, callback=steps.append)
    assert "\n" not in str(caught.value)
    assert caught.value.result.size == (36, 300)
    assert len(caught.value.result.history) == len(steps) == 1
    assert list(tmp_path.iterdir()) == []


def test_after_a_kill_it_goes_on_from_its_checkpoint(
    cut_run: Callable[..., Result], tmp_path: Path
) -> None:
    """A child is killed in its second iteration; the scratch file is gone, the state is not."""
    whole = cut_run({"scratch": tmp_path})
    path = tmp_path / "run.fnst"
    child = os.fork() if hasattr(os, "fork") else pytest.skip("no fork")
    if not child:

        def kill(step: Step) -> None:
            if step.iteration == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            torch.set_num_threads(1)  # threads do not outlive a fork
            devices._computed.clear()  # so with one thread it may compute
            cut_run({"scratch": tmp_path}, checkpoints=Checkpoints(path, 1), callback=kill)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert [p.name for p in tmp_path.iterdir()] == ["run.fnst"]
    again = cut_run({"scratch": tmp_path}, resume=path)
    assert [x.total for x in again.history] == [x.total for x in whole.history]
    assert (again.pixels == whole.pixels).all()


def test_strips_of_a_checkpoint_are_computed_in_the_memory_that_there_is() -> None:
    """Features are kept where it was found that there is room for those of just these strips."""
    mine, other = (Grid.cut(300, 36, Spacing(8, 24), rows) for rows in (48, 96))
    plan = pieces.Plan(mine, keeps_features=True)
    assert pieces.with_grid(plan, mine) == plan
    for grid in (other, None):
        found = pieces.with_grid(plan, grid)
        assert found.grid == grid
        assert not found.keeps_features


def test_only_the_native_engine_goes_on_with_rows_that_are_exchanged() -> None:
    given = settings()
    rows = pieces.cuts(given, CPU).exchanging().smallest * 4
    text = f"36×{rows} pixels{pieces.EXCHANGING}"
    with pytest.raises(InvalidInput, match="which this engine or precision cannot compute"):
        pieces.restored(text, 300, 36, given, CPU)
