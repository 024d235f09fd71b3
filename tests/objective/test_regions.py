"""Masks and regions: what a mask means, guidance at a layer, guided losses against float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import fastnst
from fastnst.engines.create import create_engine
from fastnst.errors import InvalidInput
from fastnst.inputs.masks import BLACK, WHITE, colour_regions, read_masks
from fastnst.network.weights import Weights
from fastnst.objective.build import build_objective
from fastnst.objective.regions import Region
from fastnst.ops import extension
from fastnst.settings.settings import Settings
from helpers.controls import CONTENT, ENGINES, HEIGHT, IMAGE, STYLES, WIDTH, compare
from helpers.oracle import features, style_distance
from helpers.pictures import smooth

SETTINGS = Settings(
    content_layers=("relu2_2",),
    style_layers=("relu1_1", "pool1", "relu3_1"),
    style_layer_weights=(1.0, 0.5, 2.0),
    style_weight=3.0,
    style_blend=(1.0, 3.0),
)
STATISTICS = ["gram", "covariance", "mean-std", "wasserstein"]


def soft_maps() -> tuple[Tensor, Tensor]:
    """A soft edge from left to right, and what is left of it."""
    left = torch.linspace(1.3, -0.3, WIDTH).clamp(0, 1).expand(HEIGHT, WIDTH).contiguous()
    return left, 1 - left


def blob(style: Tensor, seed: int) -> Tensor:
    height, width = style.shape[-2:]
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 4, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0, 0]


LEFT, RIGHT = soft_maps()
REGIONS = (
    Region({0: blob(STYLES[0], 1)}, LEFT, "left"),
    Region({0: None, 1: blob(STYLES[1], 2)}, RIGHT, "right"),
)


def guidance(membership: Tensor | None, features_there: Tensor) -> Tensor:
    """T at a layer with Σ T² = 1: the mean over 2×2 windows, as often as the features were pooled."""
    if membership is None:
        t = torch.ones_like(features_there[0])
    else:
        t = membership.double()
        while t.shape != features_there[0].shape:
            h, w = t.shape[0] // 2 * 2, t.shape[1] // 2 * 2
            t = (t[0:h:2, 0:w:2] + t[1:h:2, 0:w:2] + t[0:h:2, 1:w:2] + t[1:h:2, 1:w:2]) / 4
    return t / (t**2).sum().sqrt()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("statistics", STATISTICS)
def test_guided_losses_equal_float64(random_weights: Weights, statistics: str, engine: str) -> None:
    settings = replace(SETTINGS, statistics=(statistics,), blending="losses", engine=engine)
    x = IMAGE[0].double().requires_grad_()
    names = {*settings.content_layers, *settings.style_layers}
    fx, fc, *fs = (
        features(p[0].double() if p is not x else x, random_weights.tensors, names, "average")
        for p in (x, CONTENT, *STYLES)
    )
    total = ((fx["relu2_2"] - fc["relu2_2"]) ** 2).mean()
    blends = [{0: 1.0}, {0: 0.25, 1: 0.75}]  # 1:3, in the region where both are
    for region, blend in zip(REGIONS, blends, strict=True):
        share = (region.content.double() ** 2).mean()
        for name, weight in settings.layer_weights().items():
            t = guidance(region.content, fx[name])
            for k, b in blend.items():
                u = guidance(region.styles[k], fs[k][name])
                distance = style_distance(statistics, fx[name], fs[k][name], t, u)
                total = total + settings.style_weight * weight * share * b * distance
    (gradient,) = torch.autograd.grad(total, x)
    built = create_engine(random_weights, CONTENT, STYLES, settings, REGIONS)
    compare(built.evaluate(IMAGE), total, gradient)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_a_mask_that_is_all_white_changes_nothing(random_weights: Weights, statistics: str) -> None:
    settings = replace(SETTINGS, statistics=(statistics,), style_blend=None)
    ones = Region({0: torch.ones(STYLES[0].shape[-2:])}, torch.ones(HEIGHT, WIDTH))
    plain, masked = (
        build_objective(random_weights, CONTENT, STYLES[:1], settings, "torch", regions)(IMAGE)
        for regions in (None, (ones,))
    )
    torch.testing.assert_close(masked.total, plain.total)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_style_stays_in_its_region(random_weights: Weights, engine: str) -> None:
    """Beyond the receptive field of relu3_1 (24 pixels) from the region the gradient is zero."""
    where = torch.zeros(32, 96)
    where[:, :24] = 1
    content, image = torch.rand(1, 3, 32, 96), torch.rand(1, 3, 32, 96)
    settings = replace(SETTINGS, content_weight=0.0, style_blend=None, engine=engine)
    region = Region({0: None}, where)
    built = create_engine(random_weights, content, STYLES[:1], settings, (region,))
    gradient = built.evaluate(image).gradient
    assert float(gradient[..., :24].abs().max()) > 0
    assert float(gradient[..., 56:].abs().max()) == 0


def test_a_small_region_is_as_strong_per_pixel_as_a_large_one(random_weights: Weights) -> None:
    """The same texture everywhere: halving the region halves its loss and leaves its gradient."""
    tile = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    image = tile.repeat(1, 1, 2, 8)
    settings = replace(
        SETTINGS, content_weight=0.0, style_blend=None, style_layers=("relu1_1",),
        style_layer_weights=None,
    )  # fmt: skip
    gradients, losses = [], []
    for columns in (128, 64):
        where = torch.zeros(32, 128)
        where[:, :columns] = 1
        x = image.clone().requires_grad_()
        objective = build_objective(
            random_weights, image, STYLES[:1], settings, "torch", (Region({0: None}, where),)
        )
        total = objective(x).total
        losses.append(float(total.detach()))
        gradients.append(torch.autograd.grad(total, x)[0][..., 8:24, 16:48])
    # the rows and columns at the picture's edge differ, by zero padding
    assert losses[1] == pytest.approx(losses[0] / 2, rel=0.02)
    cosine = torch.nn.functional.cosine_similarity(*(g.flatten() for g in gradients), dim=0)
    assert float(cosine) > 0.999
    assert float(gradients[1].norm() / gradients[0].norm()) == pytest.approx(1, rel=0.02)


# ------------------------------------------------------------------------------- reading of masks --


def halves(left: tuple[int, int, int], right: tuple[int, int, int], width: int = 40) -> np.ndarray:
    mask = np.zeros((30, width, 3), np.uint8)
    mask[:, : width // 2], mask[:, width // 2 :] = left, right
    return mask


def pixels(mask: np.ndarray) -> np.ndarray:
    return mask.astype(np.float32) / 255


RED, BLUE, GREEN = (220, 20, 30), (10, 30, 230), (20, 200, 40)


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
    coloured = read_masks(pixels(halves(BLUE, GREEN)), (), 2)  # 260 is brighter than 270? no
    assert [of for _, _, of in coloured.regions] == [{0: None}, {1: None}]
    assert coloured.regions[0][0] == "region #0a1ee6"


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


def test_a_region_too_small_for_the_layers_is_named() -> None:
    with pytest.raises(InvalidInput, match="left of the content mask is too small"):
        Region({0: None}, torch.zeros(8, 8), "left").content_guidance((4, 4))


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
