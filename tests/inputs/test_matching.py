"""The content in the colours of its styles, region by region."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import fastnst
from fastnst.images import large
from fastnst.images.colour import match_colours
from fastnst.images.colour_rows import MatchedRows, moments
from fastnst.images.pixels import to_tensor
from fastnst.images.rows import PixelRows, TensorRows
from fastnst.images.scaling import filled
from fastnst.images.scratch import PictureStore
from fastnst.inputs.matching import matched
from fastnst.inputs.pictures import decode, scale_pictures
from fastnst.objective.regions import Region
from fastnst.settings.settings import Settings
from fastnst.strips.storage import MemoryStore
from helpers.pictures import X86_64, smooth

HEIGHT, WIDTH = 30, 40


def picture(width: int, height: int, seed: int, darkness: int = 1) -> Tensor:
    return to_tensor((smooth(width, height, seed) // darkness).astype(np.float32) / 255)


CONTENT = picture(WIDTH, HEIGHT, 0)
STYLES = (picture(20, 24, 1, 4), picture(30, 22, 2))
LEFT = torch.zeros(HEIGHT, WIDTH)
LEFT[:, :15] = 1
SOFT = torch.linspace(1, 0, WIDTH).expand(HEIGHT, WIDTH).contiguous()


def made(regions: tuple[Region, ...] | None, blend: tuple[float, ...] = (0.5, 0.5)) -> Tensor:
    return filled(matched(CONTENT, STYLES, blend, regions), MemoryStore())


def test_without_regions_all_of_it_has_the_colours_of_all_styles() -> None:
    sources = [TensorRows(style) for style in STYLES]
    expected = filled(MatchedRows(TensorRows(CONTENT), sources, (0.25, 0.75)), MemoryStore())
    assert torch.equal(made(None, (0.25, 0.75)), expected)


def test_each_region_has_the_colours_of_its_own_styles() -> None:
    """What of it counts is what would be there if the region were a picture of its own."""
    regions = (Region({0: None}, LEFT), Region({1: None}, 1 - LEFT))
    found = made(regions)
    for part, style in ((np.s_[..., :15], STYLES[0]), (np.s_[..., 15:], STYLES[1])):
        alone = match_colours(CONTENT[part], style)
        torch.testing.assert_close(found[part], alone, rtol=0, atol=1e-5)  # float64, then float32


def test_what_has_no_style_keeps_its_own_colours_bit_for_bit() -> None:
    found = made((Region({0: None}, LEFT),))
    assert torch.equal(found[..., 15:], CONTENT[..., 15:])
    assert float((found[..., :15] - CONTENT[..., :15]).abs().mean()) > 0.1


def test_soft_regions_are_mixed_by_their_maps() -> None:
    first, second = (Region({0: None}, SOFT), Region({1: None}, 1 - SOFT))
    found, alone = made((first, second)), [made((Region({k: None}, None),)) for k in (0, 1)]
    assert torch.equal(found[..., 0], _of_map(SOFT, 0)[..., 0])
    assert torch.equal(found[..., -1], _of_map(1 - SOFT, 1)[..., -1])
    expected = SOFT * _of_map(SOFT, 0) + (1 - SOFT) * _of_map(1 - SOFT, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # sums of float32
    assert not torch.equal(alone[0], alone[1])


def _of_map(where: Tensor, style: int) -> Tensor:
    """All of the content as a region with this map recolours it."""
    rows = MatchedRows(TensorRows(CONTENT), [TensorRows(STYLES[style])], None, where)
    return filled(rows, MemoryStore())


def test_a_part_of_a_style_gives_its_colours_alone() -> None:
    half = torch.zeros(24, 20)
    half[:12] = 1
    found = made((Region({0: half}, None),))
    expected = match_colours(CONTENT, STYLES[0][:, :, :12])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_styles_of_a_region_count_in_their_proportions() -> None:
    found = made((Region({0: None, 1: None}, None),), (0.25, 0.75))
    torch.testing.assert_close(found, made(None, (0.25, 0.75)), rtol=0, atol=1e-6)
    assert torch.equal(made((Region({0: None, 1: None}, None),), (0.0, 1.0)),
                       made((Region({1: None}, None),)))  # fmt: skip


def test_a_region_of_which_nothing_is_left_changes_nothing() -> None:
    """The objective refuses it, with its name."""
    nothing = torch.zeros(HEIGHT, WIDTH)
    assert torch.equal(made((Region({0: None}, nothing),)), CONTENT)
    assert torch.equal(made((Region({0: torch.zeros(24, 20)}, LEFT),)), CONTENT)


def test_moments_of_a_part() -> None:
    pixels = smooth(12, 9).astype(np.float32) / 255
    where = torch.zeros(9, 12)
    where[2:5] = 1
    mean, covariance = moments(PixelRows(pixels), where)
    part = pixels[2:5].reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(mean[:, 0], part.mean(0), rtol=1e-12)
    expected = np.cov(part.T, bias=True) + 1e-6 * np.eye(3)  # never quite singular
    np.testing.assert_allclose(covariance, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.skipif(not X86_64, reason="resampled by rows to a rounding elsewhere")
@pytest.mark.parametrize("grey", [False, True])
def test_large_pictures_in_a_store_start_as_those_in_memory(
    monkeypatch: pytest.MonkeyPatch, grey: bool
) -> None:
    mask = np.zeros((45, 60, 3), np.float32)
    mask[:, :20] = 1
    if grey:
        mask[:] = np.linspace(0, 1, 60, dtype=np.float32)[:, None]
    sources = decode(smooth(40, 30), smooth(24, 20, seed=1), mask)
    settings = Settings(init="matched")
    whole = scale_pictures(sources, settings, 40)
    monkeypatch.setattr(large, "WHOLE", 100)
    with PictureStore() as store:
        assert torch.equal(scale_pictures(sources, settings, 40, store).start, whole.start)


def test_a_run_leaves_what_has_no_style_as_it_is(
    random_weights: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Preset ``fast`` at once: its start had the style's colours everywhere."""
    monkeypatch.setattr("fastnst.run.prepare.load_weights", lambda *_: random_weights)
    content = smooth(48, 36).astype(np.float32) / 255
    mask = np.zeros_like(content)
    mask[:, :16] = 1
    result = fastnst.stylize(
        content, smooth(40, 44, seed=1) // 4, preset="fast", size=48, iterations=0,
        content_mask=mask, style_layers=("relu1_1",), content_layers=("relu2_1",),
    )  # fmt: skip
    assert np.array_equal(result.pixels[:, 16:], content[:, 16:])
    assert np.abs(result.pixels[:, :16] - content[:, :16]).mean() > 0.1
