"""Several style pictures become one loss: by their targets, by their losses, in proportion."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.losses import ContentLoss, StyleLoss, WassersteinLoss, WeightedLoss
from fastnst.network.weights import Weights
from fastnst.objective.blending import describe, is_plain, style_loss_of
from fastnst.objective.build import build_objective
from fastnst.objective.regions import Region, everywhere
from fastnst.settings.settings import Settings
from helpers.controls import CONTENT, IMAGE, STYLES

SHALLOW = Settings(content_layers=("relu2_2",), style_layers=("relu1_1", "conv1_2", "relu3_1"))


@pytest.mark.parametrize("statistics", ["gram", "covariance", "mean-std"])
def test_blended_targets_and_losses_differ_by_a_constant(
    random_weights: Weights, statistics: str
) -> None:
    settings = replace(SHALLOW, statistics=(statistics,), style_blend=(1.0, 3.0))
    targets, losses = (
        build_objective(
            random_weights, CONTENT, STYLES, replace(settings, blending=blending), "torch"
        ).double()
        for blending in ("targets", "losses")
    )
    apart = []
    for image in (IMAGE.double(), CONTENT.double()):
        apart.append(float(losses(image).total - targets(image).total))
    assert apart[0] > 0
    assert apart[0] == pytest.approx(apart[1], rel=1e-6)


def test_blending_targets_is_the_mean_of_gram_matrices(random_weights: Weights) -> None:
    def gram(styles, **settings: object) -> Tensor:
        objective = build_objective(
            random_weights, CONTENT, styles, replace(SHALLOW, **settings), "torch"
        )
        return objective.style["relu1_1"].target_gram

    expected = 0.25 * gram(STYLES[0]) + 0.75 * gram(STYLES[1])
    torch.testing.assert_close(gram(STYLES, style_blend=(1.0, 3.0)), expected)
    torch.testing.assert_close(gram(STYLES, style_blend=(0.0, 2.0)), gram(STYLES[1]))


def features(seed: int) -> Tensor:
    return torch.rand(1, 4, 5, 7, generator=torch.Generator().manual_seed(seed)).double()


def loss_of(settings: Settings, regions: tuple[Region, ...], *styles: Tensor) -> torch.nn.Module:
    described = [
        describe(style, index, settings, regions, "torch") for index, style in enumerate(styles)
    ]
    return style_loss_of(described, (5, 7), settings, regions, "torch")


def test_one_style_and_one_statistic_is_that_loss_alone() -> None:
    loss = loss_of(Settings(), everywhere(1), features(0))
    assert type(loss) is StyleLoss
    assert is_plain(loss)
    assert not is_plain(ContentLoss(features(0)))


def test_blended_losses_are_the_weighted_distances_of_each() -> None:
    settings = Settings(style_blend=(1.0, 3.0), blending="losses")
    x, first, second = features(0), features(1), features(2)
    blended = loss_of(settings, everywhere(2), first, second)
    apart = [loss_of(Settings(), everywhere(1), style)(x) for style in (first, second)]
    torch.testing.assert_close(blended(x), 0.25 * apart[0] + 0.75 * apart[1])
    assert type(blended) is StyleLoss  # one distance and a constant, no second Gram matrix


def test_wasserstein_distances_are_blended_one_by_one_and_need_the_host() -> None:
    settings = Settings(statistics=("wasserstein",), style_blend=(1.0, 1.0), blending="losses")
    blended = loss_of(settings, everywhere(2), features(1), features(2))
    assert isinstance(blended, WeightedLoss)
    assert [type(loss) for loss in blended.losses] == [WassersteinLoss, WassersteinLoss]
    assert blended.needs_host
    assert not loss_of(Settings(), everywhere(1), features(1)).needs_host


def test_a_region_without_a_style_is_named() -> None:
    regions = (Region({0: None}, name="red"), Region({1: None}, name="blue"))
    with pytest.raises(InvalidInput, match="style_blend leaves blue without a style"):
        loss_of(Settings(style_blend=(1.0, 0.0)), regions, features(1), features(2))
