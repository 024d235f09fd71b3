"""How much memory a run will need, by size, pairs and the ways of making it fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fastnst.images.large import WHOLE as LARGE
from fastnst.ops import extension
from fastnst.run.memory import Need, estimate, plans
from fastnst.run.pieces import WHOLE, Plan, cuts
from fastnst.settings.presets import PRESETS
from fastnst.settings.settings import Settings
from fastnst.strips.geometry import Grid

native = pytest.mark.skipif(not extension.is_available(), reason="no compiled extension")
NATIVE = Settings(engine="native", size=0)
MEGA = 10**6


def test_memory_is_estimated_by_size_and_history() -> None:
    settings = Settings()
    sides = [estimate(Need(side, side, settings)) for side in (256, 512, 1024)]
    # Beside the area, larger pictures have larger Winograd tiles.
    assert sides[2] - sides[1] == pytest.approx(4 * (sides[1] - sides[0]), rel=0.2)
    fewer = Settings(history_size=10)
    assert estimate(Need(256, 256, fewer)) < estimate(Need(256, 256, settings))


def bytes_a_pixel(plan: Plan, settings: Settings = NATIVE) -> float:
    """What the peak grows by with each pixel, the pieces being as large as they were."""
    small, large = (Need(8192, height, settings) for height in (6144, 12288))
    computed = 384 * 384
    more = large.in_pieces(plan, computed) - small.in_pieces(plan, computed)
    return more / (large.pixels - small.pixels)


@native
def test_bytes_a_pixel() -> None:
    """Four vectors, the gradient, ten pairs and a spare one, targets and two snapshots."""
    assert bytes_a_pixel(WHOLE) == pytest.approx(4 * 12 + 12 + (10 + 1) * 6.5 + 32 + 6)
    assert bytes_a_pixel(WHOLE) <= 170
    # The content picture is kept in the place of its targets.
    assert bytes_a_pixel(Plan(keeps_content=False)) == pytest.approx(bytes_a_pixel(WHOLE) - 20)
    # Pictures from the way alone: the content and the start lie in the scratch folder too.
    assert bytes_a_pixel(Plan(scratch=Path("/"))) == pytest.approx(6)


@native
def test_small_pictures_stay_in_memory_with_a_scratch_folder() -> None:
    """Before the work begins the content, the start and what that is made of, up to 33.5 MP."""
    plan, computed = Plan(scratch=Path("/")), 384 * 384
    small, large = (
        Need(1024, height, NATIVE).in_pieces(plan, computed) for height in (9000, 18000)
    )
    assert large - small == pytest.approx(36 * 9000 * 1024)
    few, many = (
        Need(1024, 1024, NATIVE, style_pixels=pixels).in_pieces(plan, 1024)
        for pixels in (LARGE, LARGE + 1)
    )
    assert few - many == pytest.approx(12 * LARGE)


@native
def test_the_largest_pictures_on_24_gigabytes() -> None:
    """50 megapixels take at most 10 GB, and 100 with ten pairs at most 20, in small strips."""
    for width, height, most in ((8192, 6144, 10e9), (11648, 8640, 20e9)):
        it = Need(width, height, NATIVE)
        spacing = cuts(NATIVE, it.device)
        side = max(192, spacing.smallest)
        grid = Grid.cut(height, width, spacing, side, side)
        assert estimate(it, Plan(grid)) <= most


def test_a_large_result_has_ten_pairs() -> None:
    assert Settings().pairs(4 * MEGA) == 100
    assert Settings().pairs(4 * MEGA + 1) == 10
    assert Settings(history_size=33).pairs(400 * MEGA) == 33


def test_the_ways_of_fitting(tmp_path: Path) -> None:
    it = Need(8192, 6144, Settings(precision="fp32"))
    assert plans(it, tmp_path) == [WHOLE, Plan(scratch=tmp_path)]
    assert plans(it, None) == [WHOLE, Plan(keeps_content=False)]
    for precision in ("mixed", "int16", "bf16"):  # targets are in float32
        assert plans(Need(8192, 6144, Settings(precision=precision)), None) == [WHOLE]
    assert plans(Need(8192, 6144, Settings(content_weight=0)), None) == [WHOLE]


def test_pictures_as_they_were_decoded_count() -> None:
    bare, with_sources = (Need(256, 256, Settings(), source_pixels=n) for n in (0, MEGA))
    assert estimate(with_sources) - estimate(bare) == 12 * MEGA


def test_a_preset_with_scales_has_all_its_pairs_where_there_is_one_scale() -> None:
    """40 iterations at the second of two scales have as many pairs, and a checkpoint's copies."""
    fast = replace(PRESETS["fast"], scale_iterations=(40,))
    alone = replace(fast, min_size=None)
    assert estimate(Need(512, 384, fast)) == estimate(Need(512, 384, alone))
    assert estimate(Need(2300, 1700, fast)) < estimate(Need(2300, 1700, alone))


def test_every_style_picture_is_held_before_the_optimisation() -> None:
    """Those that are large lie in the scratch folder, if there is one."""
    alone = Need(64, 64, NATIVE, style_pixels=MEGA)
    beside = replace(alone, further_styles=(LARGE + 1, MEGA // 2))
    more = LARGE + 1 + MEGA // 2
    assert beside.whole() - alone.whole() == pytest.approx(12 * more, rel=0.01)
    for plan, counted in ((Plan(), more), (Plan(scratch=Path()), MEGA // 2)):
        found = beside.in_pieces(plan, 64 * 64) - alone.in_pieces(plan, 64 * 64)
        assert found == pytest.approx(12 * counted, rel=0.01)
    assert replace(beside, settings=replace(NATIVE, style_size=None)).at(32).further_styles == (
        round((LARGE + 1) / 4), round(MEGA / 8),
    )  # fmt: skip


def test_styles_of_a_size_of_their_own_do_not_grow_with_the_result() -> None:
    for fields, pixels in (
        ({}, 4000),
        ({"style_size": 200}, 1000),
        ({"style_fit": "content"}, 4000),
    ):
        need = Need(100, 50, Settings(**fields), style_pixels=1000)
        larger = need.at(200)
        assert (larger.width, larger.height, larger.style_pixels) == (200, 100, pixels)
