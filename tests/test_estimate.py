"""What a run will take, before it starts; and what there is to take it from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fastnst.cli.console import duration
from fastnst.errors import InvalidInput
from fastnst.estimate import ScaleEstimate, _passes, estimate
from fastnst.run import available, memory, pieces, preparation
from fastnst.run.pieces import Plan
from fastnst.settings.settings import Settings
from fastnst.strips.budget import amount
from fastnst.strips.geometry import Grid
from helpers.pictures import smooth

SMALL = {"style_layers": ("relu1_1", "relu2_1"), "content_layers": ("relu2_1",)}
PICTURES = smooth(96, 72), smooth(40, 44, seed=1)


def test_an_estimate_has_the_size_the_memory_and_the_engine_of_the_run() -> None:
    settings = Settings(size=64, iterations=5, engine="torch", **SMALL)
    needs = estimate(*PICTURES, settings)
    assert (needs.width, needs.height, needs.engine, needs.device) == (64, 48, "torch", "cpu")
    sources = 96 * 72 + 40 * 44
    assert needs.bytes == memory.estimate(memory.Need(64, 48, settings, source_pixels=sources))
    assert needs.free_bytes is None or needs.free_bytes > needs.bytes


@pytest.fixture(autouse=True)
def nothing_precedes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures and targets take no time, unless a test says what they take."""
    monkeypatch.setattr("fastnst.estimate._timed", lambda work: (work(), 0.0))


def test_decoding_scaling_and_targets_count(monkeypatch) -> None:
    """The first once; the others at each scale, by the pixels that the network sees of pictures."""
    monkeypatch.setattr("fastnst.estimate._quickest", lambda work: 0.0)
    seconds = iter([7.0, 0.25, 0.5])
    monkeypatch.setattr("fastnst.estimate._timed", lambda work: (work(), next(seconds)))
    settings = Settings(size=64, min_size=32, iterations=1, scale_iterations=(1,), **SMALL)
    found = estimate(*PICTURES, settings)
    assert [scale.seconds for scale in found.scales] == pytest.approx([0.75 / 4, 0.75], rel=0.02)
    assert found.seconds == pytest.approx(7 + sum(scale.seconds for scale in found.scales))


def test_time_is_evaluations_and_passes_over_the_history(monkeypatch) -> None:
    seconds = iter([0.5, 0.008, 0.5, 0.008])
    monkeypatch.setattr("fastnst.estimate._quickest", lambda work: next(seconds))
    few = estimate(*PICTURES, Settings(size=64, iterations=4, history_size=2, **SMALL))
    # 5 evaluations; 0, 1, 2 and 2 pairs, of 4 passes at 0.008 s for 4 rows
    assert few.seconds == pytest.approx(5 * 0.5 + (0 + 1 + 2 + 2) * 4 * 0.002)
    many = estimate(*PICTURES, Settings(size=64, iterations=4, history_size=9, **SMALL))
    assert many.seconds == pytest.approx(5 * 0.5 + (0 + 1 + 2 + 3) * 4 * 0.002)


def test_a_size_that_does_not_fit_is_refused_with_one_that_does(monkeypatch) -> None:
    monkeypatch.setattr(available, "available", lambda device: 2**28)
    with pytest.raises(InvalidInput, match=r"use --size \d+ or less"):
        estimate(*PICTURES, Settings(size=512, **SMALL))


def test_durations() -> None:
    assert [duration(s) for s in (0.2, 45, 60, 200, 3600, 7500)] == [
        "1 s", "45 s", "1 min", "3 min 20 s", "1 h", "2 h 5 min"
    ]  # fmt: skip


def test_amounts_have_units_that_say_something() -> None:
    found = [amount(count) for count in (0, 2**20, 37.4 * 2**20, 1023 * 2**20, 1.44 * 2**30)]
    assert found == ["1 MiB", "1 MiB", "37 MiB", "1023 MiB", "1.4 GiB"]


@pytest.mark.parametrize("precision", ["fp32", "mixed"])
def test_what_runs_is_what_is_measured(monkeypatch, precision: str) -> None:
    """Where the setting leaves the precision open, the one that a run would choose."""
    asked = []
    create = preparation.create_engine

    def note(weights, content, styles, settings, *rest, **more):
        asked.append(settings.precision)
        return create(weights, content, styles, replace(settings, precision="fp32"), *rest, **more)

    monkeypatch.setattr(preparation, "create_engine", note)
    monkeypatch.setattr(preparation, "choose_precision", lambda settings, device: precision)
    estimate(*PICTURES, Settings(size=32, iterations=1, **SMALL))
    assert asked == [precision]


def test_each_scale_has_its_time(monkeypatch) -> None:
    seconds = iter([0.5, 0.008])
    monkeypatch.setattr("fastnst.estimate._quickest", lambda work: next(seconds))
    settings = Settings(size=64, min_size=32, iterations=4, scale_iterations=(2,), **SMALL)
    found = estimate(*PICTURES, settings)
    # a quarter of the pixels: 5 evaluations and 0 to 3 pairs; then 3 evaluations and 0 and 1 pair
    assert found.scales == (
        ScaleEstimate(32, 24, 4, pytest.approx((5 * 0.5 + 6 * 4 * 0.002) / 4), 1),
        ScaleEstimate(64, 48, 2, pytest.approx(3 * 0.5 + 1 * 4 * 0.002), 1),
    )
    assert found.seconds == pytest.approx(sum(scale.seconds for scale in found.scales))


@pytest.mark.parametrize("cut", [False, True])
def test_a_large_picture_is_tried_at_a_smaller_size(monkeypatch, cut: bool) -> None:
    """Its time is that of the pixels that are computed, halos included."""
    settings = Settings(size=96, iterations=1, engine="torch", **SMALL)
    monkeypatch.setattr("fastnst.estimate.TRIAL", 48 * 36)
    spacing = pieces.cuts(settings, torch.device("cpu"))

    def plan(need, *_):
        whole = not cut or need.height <= spacing.smallest
        rows = 0 if whole else spacing.smallest
        return Plan(None if whole else Grid.cut(need.height, need.width, spacing, rows))

    monkeypatch.setattr("fastnst.estimate.make_plan", plan)
    tried = []

    def quickest(work):
        work()
        tried.append(work)
        return 0.5 if len(tried) == 1 else 0.008

    monkeypatch.setattr("fastnst.estimate._quickest", quickest)
    found = estimate(*PICTURES, settings)
    assert (found.width, found.height) == (96, 72)
    if not cut:
        # four times the pixels of the trial, two evaluations and no pair
        assert found.seconds == pytest.approx(4 * 2 * 0.5)
        return
    grid, trial = (Grid.cut(*size, spacing, spacing.smallest) for size in ((72, 96), (36, 48)))
    assert found.pieces == len(grid) > 1
    # All pieces but the last are computed forward twice, and once back.
    again = (3 - 1 / len(grid)) / (3 - 1 / len(trial))
    redone = grid.computed_pixels / trial.computed_pixels
    assert found.seconds == pytest.approx(again * redone * 2 * 0.5)


def test_a_trial_is_no_smaller_than_the_network_needs(monkeypatch) -> None:
    """Neither side of the content, nor of a style: the run's own are large enough."""
    monkeypatch.setattr("fastnst.estimate.TRIAL", 400)
    its = {"content_layers": ("relu5_1",), "style_layers": ("relu1_1",), "iterations": 1}
    settings = Settings(size=0, style_size=0, **its)
    for pictures in ((smooth(400, 17), smooth(40, 44)), (smooth(90, 80), smooth(200, 17))):
        assert estimate(*pictures, settings).seconds > 0


@pytest.mark.parametrize("keeps_content", [True, False])
def test_targets_that_are_not_kept_take_time_and_a_scratch_file_space(
    monkeypatch, tmp_path, keeps_content: bool
) -> None:
    settings = Settings(size=96, iterations=1, engine="torch", **SMALL)
    spacing = pieces.cuts(settings, torch.device("cpu"))
    grid = Grid.cut(72, 96, spacing, spacing.smallest)
    way = Plan(grid, keeps_content=keeps_content, scratch=tmp_path)
    monkeypatch.setattr("fastnst.estimate.make_plan", lambda *_: way)
    found = estimate(*PICTURES, settings)
    need = memory.Need(96, 72, settings)
    assert found.scratch_bytes == need.mapped() > 0
    # forward twice but for the last piece, once back; and as often again for the targets
    forward = 2 - 1 / len(grid)
    assert _passes(way) == pytest.approx(1 + (1 if keeps_content else 2) * forward)


def test_an_estimate_leaves_the_random_numbers_of_the_caller_alone() -> None:
    before = torch.get_rng_state()
    estimate(*PICTURES, Settings(size=48, iterations=2, engine="torch", **SMALL))
    assert torch.equal(torch.get_rng_state(), before)
