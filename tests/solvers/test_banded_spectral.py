"""The transform and the scaling by bands: those of the whole picture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastnst.solvers.banded_fourier import BandedFourier
from fastnst.solvers.banded_spectral import BandedScaling
from fastnst.solvers.curvature import Curvature
from fastnst.solvers.spectral import OPPONENT_COLOURS, SpectralScaling
from fastnst.solvers.vectors import Placement, Vector
from fastnst.strips.geometry import Spacing, spans
from helpers.ranks import on_ranks
from helpers.ranks_work import transforms

HEIGHT = 29
PLACEMENT = Placement(spans(HEIGHT, 8, Spacing(4, 4)))  # of 8, 8, 8 and 5 rows
COLOURS = torch.tensor(OPPONENT_COLOURS, dtype=torch.float64)


def picture(width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((1, 3, HEIGHT, width), generator=generator, dtype=torch.float64)


def vector(x: Tensor, placement: Placement = PLACEMENT) -> Vector:
    found = placement.vector(x)
    for band, view in zip(found, placement.views(x), strict=True):
        band.copy_(view.reshape(-1))
    return found


def joined(x: Vector, width: int) -> Tensor:
    return torch.cat([band.view(1, 3, -1, width) for band in x], -2)


@pytest.mark.parametrize("width", [1, 2, 9, 12])  # fewer columns than bands, odd and even
def test_the_transform_is_that_of_the_whole_picture(width: int) -> None:
    x = picture(width)
    fourier = BandedFourier(x, PLACEMENT, COLOURS)
    found, back = fourier.spectrum(), vector(torch.zeros_like(x))
    fourier.forward(vector(x), found)
    opponent = torch.einsum("kc,chw->khw", COLOURS, x[0])
    expected = torch.fft.rfft2(opponent, norm="ortho")
    # float64: rounding of a transform of a few hundred numbers near 1
    assert torch.allclose(torch.cat(found, -1).transpose(0, 1), expected, rtol=0, atol=1e-13)
    fourier.inverse(found, back)
    assert torch.allclose(joined(back, width), x, rtol=0, atol=1e-13)


def test_the_scaling_is_that_of_the_whole_picture() -> None:
    x = picture(12)
    banded, whole = BandedScaling(x, PLACEMENT), SpectralScaling(x)
    for seed in range(3):
        step, change = picture(12, 2 * seed), picture(12, 2 * seed + 1)
        change += step  # so that there is some curvature along it
        along = torch.dot(step.flatten(), change.flatten())
        square = torch.dot(change.flatten(), change.flatten())
        banded.learn_pair(vector(step), vector(change), Curvature(float(along), float(square)))
        whole.learn(step.flatten(), change.flatten(), along, square)
    direction = vector(x)
    banded.scale(direction)
    expected = whole.apply(x.flatten()).view_as(x)
    # float64: rounding of transforms and of sums in another order
    assert torch.allclose(joined(direction, 12), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks_transform_the_same_bits(ranks: int) -> None:
    """With three and four ranks some have more bands than others; two columns go to nobody."""
    for width in (3, 24):
        x = picture(width).float()
        fourier = BandedFourier(x, PLACEMENT, COLOURS.float())
        spectrum, back = fourier.spectrum(), vector(x)
        fourier.forward(vector(x), spectrum)
        expected = torch.cat(spectrum, -1).clone()
        fourier.inverse(spectrum, back)
        found = on_ranks(ranks, transforms, x, PLACEMENT.bands, COLOURS.float())
        assert torch.equal(torch.cat([rank[0] for rank in found], -1), expected)
        assert torch.equal(torch.cat([rank[1] for rank in found], -2), joined(back, width))
        half = width // 2 + 1
        for rank, (mine, rows, sent, calls) in enumerate(found):
            assert calls == 2
            # complex64 in three colours: the columns of others of its rows, then the reverse
            own, h = mine.shape[-1], rows.shape[-2]
            assert sent == 3 * 8 * (h * (half - own) + own * (HEIGHT - h)), rank


def test_threads_change_no_bit() -> None:
    """Ranks share the threads of a machine, so that each has others."""
    bands = spans(256, 96, Spacing(48, 48))
    x = torch.randn((1, 3, 256, 301), generator=torch.Generator().manual_seed(1))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            placement = Placement(bands)
            scaling, direction = BandedScaling(x, placement), vector(x, placement)
            products = Curvature(1.0, 4.0)
            scaling.learn_pair(vector(x, placement), vector(x * 2, placement), products)
            scaling.scale(direction)
            results.append(joined(direction, 301))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
