"""From masks, as people paint them, to regions: colours, softness, which style goes where."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import fastnst
from fastnst.errors import InvalidInput
from fastnst.inputs.masks import BLACK, WHITE, Masks, colour_regions, read_masks
from fastnst.ops import extension
from helpers.pictures import smooth

RED, BLUE, GREEN = (220, 20, 30), (10, 30, 230), (20, 200, 40)


def halves(left: tuple[int, int, int], right: tuple[int, int, int], width: int = 40) -> np.ndarray:
    mask = np.zeros((30, width, 3), np.uint8)
    mask[:, : width // 2], mask[:, width // 2 :] = left, right
    return mask


def pixels(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.float32) / 255


def test_a_grey_mask_is_soft() -> None:
    ramp = np.repeat(np.linspace(0, 1, 20, dtype=np.float32)[None, :, None], 10, 0).repeat(3, 2)
    found = colour_regions(ramp, "m")
    assert list(found) == [WHITE, BLACK]
    np.testing.assert_allclose(found[WHITE], ramp[..., 0], atol=1e-6)
    np.testing.assert_allclose(found[WHITE] + found[BLACK], 1, atol=1e-6)
    assert list(colour_regions(np.ones((4, 4, 3), np.float32), "m")) == [WHITE]


@pytest.mark.parametrize("save", [{"format": "PNG"}, {"format": "JPEG", "quality": 70}])
def test_a_coloured_mask_survives_scaling_and_jpeg(tmp_path, save: dict) -> None:
    mask = Image.fromarray(halves(RED, BLUE, 160)).resize((331, 97), Image.Resampling.BICUBIC)
    mask.save(tmp_path / "mask", **save)
    found = colour_regions(fastnst.load_image(tmp_path / "mask"), "m")
    assert len(found) == 2
    for colour, wanted in zip(sorted(found), sorted([RED, BLUE]), strict=True):
        assert max(abs(a - b) for a, b in zip(colour, wanted, strict=True)) < 12
        assert found[colour].mean() == pytest.approx(0.5, abs=0.02)


def test_a_photograph_is_no_mask() -> None:
    with pytest.raises(InvalidInput, match="the content mask is no mask: expected a grey"):
        read_masks(pixels(np.random.default_rng(0).integers(0, 255, (64, 64, 3))), (), 1)
    with pytest.raises(InvalidInput, match="style mask 1 is no mask"):
        read_masks(None, [fastnst.load_image("sample:harbour")], 1)


def test_styles_go_to_the_regions_in_order() -> None:
    grey = pixels(halves(WHITE, BLACK))
    ((name, where, styles),) = read_masks(grey, (), 1).regions
    assert (name, where.mean(), styles) == ("region white", 0.5, {0: None})
    masks = read_masks(grey, (), 2)
    assert [(name, of) for name, _, of in masks.regions] == [
        ("region white", {0: None}), ("region black", {1: None})
    ]  # fmt: skip
    for wrong in (3, 4):
        with pytest.raises(InvalidInput, match=rf"2 regions \(.*white.*black\) for {wrong} style"):
            read_masks(grey, (), wrong)
    coloured = read_masks(pixels(halves(BLUE, GREEN)), (), 2)  # green is the brighter one
    assert [of for _, _, of in coloured.regions] == [{0: None}, {1: None}]
    assert coloured.regions[0][0] == "region #14c828"


@pytest.mark.parametrize("rows", [(49, 51, 50), (51, 49, 50), (40, 50, 60)])
@pytest.mark.parametrize(
    "save", [{"format": "PNG"}, *({"format": "JPEG", "quality": q} for q in (30, 60, 75, 95))]
)
def test_the_order_of_regions_is_that_of_their_colours(
    tmp_path, rows: tuple[int, ...], save: dict
) -> None:
    """Not that of their areas, nor of what JPEG makes of them: all three add up to 255."""
    paints = [(255, 0, 0), (0, 0, 255), (0, 255, 0)]
    Image.fromarray(np.repeat(np.array(paints, np.uint8), rows, 0)[:, None].repeat(96, 1)).save(
        tmp_path / "mask", **save
    )
    masks = read_masks(fastnst.load_image(tmp_path / "mask"), (), 3)
    at = np.arange(sum(rows))
    places = [(where.mean(1) * at).sum() / where.mean(1).sum() for _, where, _ in masks.regions]
    middle = [rows[0] // 2, rows[0] + rows[1] // 2, sum(rows) - rows[2] // 2]
    assert [int(np.abs(np.array(middle) - place).argmin()) for place in places] == [2, 0, 1]


def test_regions_meet_their_colour_in_the_style_masks() -> None:
    content = pixels(halves(RED, BLUE))
    styles = [pixels(halves(BLUE, GREEN)), pixels(halves(RED, BLUE))]
    masks = read_masks(content, styles, 2)
    found = {name: of for name, _, of in masks.regions}
    assert {name: sorted(of) for name, of in found.items()} == {
        "region #0a1ee6": [0, 1], "region #dc141e": [1]
    }  # fmt: skip
    assert found["region #dc141e"][1][:, :20].min() == 1
    with pytest.raises(InvalidInput, match="region #14c828 of the content mask is in no style"):
        read_masks(pixels(halves(RED, GREEN)), [styles[1]], 1)
    with pytest.raises(InvalidInput, match="1 style masks for 2 style pictures"):
        read_masks(content, styles[:1], 2)
    # black needs no style
    masks = read_masks(pixels(halves(RED, BLACK)), [styles[1]], 1)
    assert [name for name, _, _ in masks.regions] == ["region #dc141e"]


def test_style_masks_alone_choose_what_counts() -> None:
    ((_, where, styles),) = read_masks(None, [pixels(halves(WHITE, BLACK))], 1).regions
    assert where is None
    assert styles[0][:, :20].min() == 1
    assert styles[0][:, 20:].max() == 0
    with pytest.raises(InvalidInput, match="style mask 1 is all black"):
        read_masks(None, [np.zeros((4, 4, 3), np.float32)], 1)


def test_masks_of_any_size_in_a_run() -> None:
    content = smooth(48, 36)
    runs = [
        fastnst.stylize(
            content, [smooth(40, 44, 1), smooth(30, 30, 2)], size=48, iterations=4, engine=engine,
            content_mask=halves(WHITE, BLACK, 100), style_masks=masks,
        )
        for engine in (["torch", "native"] if extension.is_available() else ["torch"])
        for masks in (None, [halves(WHITE, BLACK, 7), halves(BLACK, WHITE, 90)])
    ]  # fmt: skip
    for result in runs:
        assert result.losses.total < result.history[0].total


@pytest.mark.parametrize("size", [(7, 5), (30, 40), (61, 83)])
def test_scaled_maps_go_on_adding_up_to_one(size: tuple[int, int]) -> None:
    masks = read_masks(pixels(halves(RED, BLUE)), [pixels(halves(RED, BLUE))], 1)
    regions = masks.at(size, [(9, 11)])
    assert [region.name for region in regions] == ["region #dc141e", "region #0a1ee6"]
    there = [region.content for region in regions]
    assert all(where is not None and where.shape == size for where in there)
    # float32 averages of zeros and ones
    assert float((sum(there) - 1).abs().max()) < 1e-5
    # enlarged, a pixel takes the nearest one: the edge is off by half a pixel at most
    assert float(there[0].mean()) == pytest.approx(0.5, abs=0.5 / size[1] + 1e-5)
    assert all(region.styles[0].shape == (9, 11) for region in regions)


def test_a_digest_tells_masks_apart() -> None:
    one, other = pixels(halves(RED, BLUE)), pixels(halves(RED, GREEN))
    digests = {read_masks(mask, (), 2).digest() for mask in (one, other, one.copy())}
    assert len(digests) == 2


@pytest.mark.parametrize("size", [(1, 1), (7, 5)])
def test_an_all_black_mask_would_style_nothing(size: tuple[int, int]) -> None:
    black = np.zeros((*size, 3), np.float32)
    with pytest.raises(InvalidInput, match="the content mask is all black"):
        read_masks(black, (), 1)
    with pytest.raises(InvalidInput, match="style mask 1 is all black"):
        read_masks(None, (black,), 1)
    regions = read_masks(black, (black,), 1).regions  # its colour is in the style's mask
    assert [name for name, *_ in regions] == ["region black"]


def test_a_small_spot_is_a_region() -> None:
    mask = np.zeros((1000, 1000, 3), np.float32)
    mask[500:503, 500:503] = 1
    ((name, where, _), _) = read_masks(mask, (), 2).regions
    assert (name, where.sum()) == ("region white", 9)


def test_a_digest_tells_which_style_a_map_is_for() -> None:
    there = np.ones((3, 4), np.float32)
    digests = {Masks((("red", there, {k: there}),)).digest() for k in (0, 1)}
    assert len(digests) == 2
