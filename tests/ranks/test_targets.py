"""Targets that several ranks compute together: each a part of the pieces, all the same result."""

from __future__ import annotations

import pytest
import torch

from fastnst.network.normalization import Normalization
from fastnst.network.vgg import VGG
from fastnst.objective.bands import content_features
from helpers import ranks_work
from helpers.controls import picture
from helpers.networks import made_of_noise
from helpers.ranks import on_ranks

PIXELS = 41 * 60  # of a style picture of 41×331, that are computed together


@pytest.mark.parametrize("control", ["gram", "mean-std", "wasserstein"])
def test_style_targets_have_the_same_bits_on_any_number_of_ranks(control: str) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # where each of the ranks has one
    expected, all_pixels = ranks_work.style_targets(control, PIXELS)
    torch.set_num_threads(before)
    assert all_pixels > 41 * 331  # in several pieces, each with a halo
    for ranks in (2, 3):
        found = on_ranks(ranks, ranks_work.style_targets, control, PIXELS)
        for targets, _ in found:
            assert all(map(torch.equal, targets, expected))
        pixels = [computed for _, computed in found]
        assert sum(pixels) == all_pixels  # nothing twice
        assert max(pixels) < all_pixels


def test_targets_in_pieces_are_those_of_the_whole() -> None:
    found, _ = ranks_work.style_targets("gram", PIXELS)
    whole, pixels = ranks_work.style_targets("gram", None)
    assert pixels == 41 * 331
    for x, y in zip(found, whole, strict=True):
        assert float((x - y).norm() / y.norm()) <= 1e-5  # float32 sums of 13571 positions


@pytest.mark.parametrize("rows", [(0, 96), (96, 200), (200, 331)])
def test_content_features_of_some_rows(rows: tuple[int, int]) -> None:
    """Those of the whole picture, with fewer pixels computed."""
    weights, layers, image = made_of_noise(), ("relu2_2",), picture(41, 331, 1)
    network = VGG(weights.architecture, weights.tensors, layers)
    normalize = Normalization(weights.preprocessing.mean, weights.preprocessing.std)
    given = (network, normalize, image, layers, PIXELS)
    whole = content_features(*given)["relu2_2"]
    calls: list[int] = []
    network.register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0].shape[-2]))
    found = content_features(*given, rows)["relu2_2"]
    first, last = rows[0] // 2, rows[1] // 2
    assert torch.equal(found[:, :, first:last], whole[:, :, first:last])
    assert 0 < sum(calls) < 331
