"""The initial inverse Hessian by frequency and colour, on objectives whose curvature is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fastnst.solvers.minimise import minimise
from fastnst.solvers.spectral import (
    FLOOR,
    MEMORY,
    OPPONENT_COLOURS,
    POWER,
    STRETCH,
    SpectralScaling,
)
from helpers.functions import evaluator


def band_limited(height: int, width: int, low: float, high: float, colour: int) -> Tensor:
    """Noise of some frequencies in one opponent colour, ``(3·H·W,)`` float64."""
    rows = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    columns = torch.fft.rfftfreq(width, dtype=torch.float64)[None]
    frequency = (rows.square() + columns.square()).sqrt()
    spectrum = torch.fft.rfft2(torch.randn(height, width, dtype=torch.float64))
    spectrum[(frequency < low) | (frequency >= high)] = 0
    plane = torch.fft.irfft2(spectrum, s=(height, width))
    weights = torch.tensor(OPPONENT_COLOURS[colour], dtype=torch.float64)
    return (weights[:, None, None] * plane).reshape(-1)


def learn(scaling: SpectralScaling, step: torch.Tensor, change: torch.Tensor) -> None:
    scaling.learn(step, change, torch.dot(step, change), torch.dot(change, change))


def scaling_of(height: int, width: int, coarse: float, fine: float) -> SpectralScaling:
    """What is learnt from steps where grey has the curvatures ``coarse`` and ``fine``."""
    scaling = SpectralScaling(torch.zeros(1, 3, height, width, dtype=torch.float64))
    for _ in range(3):
        slow = band_limited(height, width, 0.0, 0.1, 0)
        quick = band_limited(height, width, 0.25, 0.8, 0)
        learn(scaling, slow + quick, coarse * slow + fine * quick)
    return scaling


@pytest.mark.parametrize("size", [(32, 32), (31, 40), (33, 27)])
def test_scales_each_band_by_a_power_of_its_curvature(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    scaling = scaling_of(*size, coarse=50.0, fine=0.5)
    coarse, fine = (band_limited(*size, *band, 0) for band in ((0.0, 0.08), (0.3, 0.8)))
    ratio = float(scaling.apply(fine).norm() / fine.norm()) / float(
        scaling.apply(coarse).norm() / coarse.norm()
    )
    assert ratio == pytest.approx(100.0**POWER, rel=1e-6)


@pytest.mark.parametrize(("curvature", "expected"), [(8.0, 8.0**-POWER), (0.01, 1.0)])
def test_a_colour_moves_no_further_than_grey(curvature: float, expected: float) -> None:
    """Where a colour has more curvature than grey it has its own P, where it has less grey's."""
    torch.manual_seed(0)
    scaling = SpectralScaling(torch.zeros(1, 3, 31, 40, dtype=torch.float64))
    for _ in range(3):
        grey, red = (band_limited(31, 40, 0.25, 0.8, colour) for colour in (0, 1))
        learn(scaling, grey + red, grey + curvature * red)
    moved = [
        float(scaling.apply(x).norm() / x.norm())
        for x in (band_limited(31, 40, 0.3, 0.8, colour) for colour in (0, 1))
    ]
    assert moved[1] / moved[0] == pytest.approx(expected, rel=1e-6)


def test_meets_the_stretched_secant_equation_of_the_newest_pair_along_y() -> None:
    # γ = STRETCH · s·y / y·P y, so that y·(γ P y) = STRETCH · y·s
    torch.manual_seed(0)
    scaling = scaling_of(20, 23, coarse=3.0, fine=1.0)
    step = torch.randn(3 * 20 * 23, dtype=torch.float64)
    change = step + 0.1 * torch.randn_like(step)
    learn(scaling, step, change)
    torch.testing.assert_close(
        torch.dot(change, scaling.apply(change)),
        STRETCH * torch.dot(change, step),
        rtol=1e-10,
        atol=0,
    )


@pytest.mark.parametrize("size", [(16, 16), (15, 18), (1, 9), (7, 1)])
def test_is_symmetric_and_positive(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    scaling = SpectralScaling(torch.zeros(1, 3, *size, dtype=torch.float64))
    a, b, c = torch.randn(3, 3 * size[0] * size[1], dtype=torch.float64)
    learn(scaling, a, a + 0.3 * b)
    torch.testing.assert_close(torch.dot(b, scaling.apply(c)), torch.dot(scaling.apply(b), c))
    assert float(torch.dot(b, scaling.apply(b))) > 0


def test_no_curvature_means_the_floor_not_infinity() -> None:
    torch.manual_seed(0)
    scaling = scaling_of(16, 16, coarse=1.0, fine=-1.0)
    assert float(scaling.scaling.max()) == pytest.approx(FLOOR**-POWER)


def test_needs_fewer_iterations_where_curvature_goes_with_frequency() -> None:
    # a quadratic whose curvature falls from 1 for the coarsest to 10⁻⁴ for the finest structures
    target = 0.5 + 0.1 * torch.randn(1, 3, 24, 24, dtype=torch.float64).clamp(-3, 3)

    def objective(x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(x - target, norm="ortho")
        rows, columns = torch.fft.fftfreq(24)[:, None], torch.fft.rfftfreq(24)[None]
        frequency = (rows.square() + columns.square()).sqrt() / 0.5**0.5
        curvature = 10.0 ** (-4 * frequency)
        return (curvature * spectrum.abs().square()).sum()

    distances = {}
    for optimizer in ("lbfgs", "spectral"):
        *_, last = minimise(
            evaluator(objective), torch.full_like(target, 0.5), iterations=60, history_size=4,
            optimizer=optimizer,
        )  # fmt: skip
        distances[optimizer] = float((last.image - target).norm())
    assert distances["spectral"] < 0.5 * distances["lbfgs"]


@pytest.mark.parametrize("size", [(16, 16), (15, 18), (18, 15), (1, 9), (7, 1), (2, 2)])
def test_the_sums_over_all_bands_are_those_over_the_pixels(size: tuple[int, int]) -> None:
    """Parseval: each frequency counts once, with its conjugate where only one of them is kept."""
    torch.manual_seed(0)
    a, b = torch.randn(2, 3 * size[0] * size[1], dtype=torch.float64)
    scaling = SpectralScaling(torch.zeros(1, 3, *size, dtype=torch.float64))
    learn(scaling, a, b)
    torch.testing.assert_close(scaling.ss.sum(), torch.dot(a, a), rtol=1e-12, atol=0)
    torch.testing.assert_close(scaling.sy.sum(), torch.dot(a, b), rtol=1e-11, atol=1e-11)


def test_past_steps_count_less_and_less() -> None:
    torch.manual_seed(0)
    scaling = SpectralScaling(torch.zeros(1, 3, 16, 16, dtype=torch.float64))
    steps = torch.randn(3, 3 * 16 * 16, dtype=torch.float64)
    for curvature, step in zip((1.0, 5.0, 2.0), steps, strict=True):
        learn(scaling, step, curvature * step)
    squares = [float(torch.dot(step, step)) for step in steps]
    weights = MEMORY**2, MEMORY, 1
    assert 0 < MEMORY < 1
    assert float(scaling.ss.sum()) == pytest.approx(
        sum(w * s for w, s in zip(weights, squares, strict=True)), rel=1e-12
    )
    assert float(scaling.sy.sum()) == pytest.approx(
        sum(w * h * s for w, h, s in zip(weights, (1, 5, 2), squares, strict=True)), rel=1e-12
    )


@pytest.mark.parametrize("exponent", [-100, -83, 66, 100])
@pytest.mark.parametrize("accept", [None, torch.tensor(True)])
def test_large_and_small_weights_change_no_bit(exponent: int, accept: Tensor | None) -> None:
    """Of y that is 2^exponent times as long; in float32 its square would over- or underflow."""
    torch.manual_seed(0)
    size = (1, 3, 24, 31)
    pairs = []
    for _ in range(3):
        step, other = 1e-2 * torch.randn(2, 3 * 24 * 31)
        pairs.append((step, 5 * step + other))
    found = []
    for factor in (1.0, 2.0**exponent):
        scaling = SpectralScaling(torch.zeros(size))
        for step, change in pairs:
            s, y = step.double(), change.double() * factor
            scaling.learn(step, change * factor, torch.dot(s, y), torch.dot(y, y), accept)
        found.append((scaling.scaling, scaling.sy / factor, scaling.gamma * factor))
    for ours, plain in zip(found[1], found[0], strict=True):
        assert ours.isfinite().all()
        assert torch.equal(ours, plain)
