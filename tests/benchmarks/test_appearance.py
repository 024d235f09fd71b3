"""What the eye finds, against closed forms and pictures whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import appearance
from benchmarks.appearance import BANDS, COARSE, PERIODS
from helpers.pictures import smooth

SIZE = 192  # a multiple of every period


def grey(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane[..., None], 3, axis=-1)


def white(std: float, height: int = SIZE, width: int = SIZE, seed: int = 0) -> np.ndarray:
    return 0.5 + std * np.random.default_rng(seed).standard_normal((height, width, 3))


def test_colour_differences_of_grey_are_none() -> None:
    luminance, u, v = appearance.channels(grey(np.full((2, 3), 0.25)))
    np.testing.assert_allclose(luminance, 0.25)
    np.testing.assert_allclose([u, v], 0, atol=1e-15)
    red = appearance.channels(np.array([[[1.0, 0.0, 0.0]]]))[:, 0, 0]
    np.testing.assert_allclose(red, [0.299, -0.299, 0.701])


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (131, 96)])
def test_white_noise_has_its_variance_at_every_frequency(shape: tuple[int, int]) -> None:
    """L, U and V are weighted sums of three independent colours, so their variances are known."""
    own = np.array([0.299, 0.587, 0.114])
    variances = [
        (own**2).sum(),
        ((np.eye(3)[2] - own) ** 2).sum(),
        ((np.eye(3)[0] - own) ** 2).sum(),
    ]
    found = appearance.power(white(0.02, *shape))
    # A band's mean is over n frequencies, about n / 4.5 of them independent (the window spreads
    # each over its neighbours, and a real picture has each twice): four standard deviations.
    rows, columns = (np.fft.fftfreq(n) for n in shape)
    radius = np.hypot(rows[:, None], columns[None])
    for band, (low, high) in enumerate(BANDS):
        count = ((radius >= low) & (radius < high)).sum()
        bound = 4 / (count / 4.5) ** 0.5
        assert found[:, band] / 0.02**2 == pytest.approx(variances, rel=bound)


def test_a_wave_has_half_its_amplitude_squared() -> None:
    """Parseval: the mean power over all frequencies is the windowed mean square."""
    x = np.arange(SIZE)
    wave = 0.1 * np.cos(2 * np.pi * x * 80 / SIZE)
    plane = np.broadcast_to(wave, (SIZE, SIZE))
    assert appearance.spectrum(plane).mean() == pytest.approx(0.1**2 / 2, rel=1e-3)  # ends of Hann
    found = appearance.power(grey(0.5 + plane))
    assert found[0, -1] > 1e6 * found[0, 0]  # 80 / 192 cycles per pixel: in the finest band alone
    assert found[1:].max() < 1e-20


def test_a_flat_picture_has_no_power() -> None:
    assert appearance.power(grey(np.full((40, 56), 0.3))).max() < 1e-25


def test_clipped_values_are_counted_as_they_are_saved() -> None:
    pixels = np.full((2, 2, 3), 0.5)
    pixels[0, 0] = [0.0, 1.0, 0.0019]  # the last is saved as 0
    pixels[0, 1] = [0.0021, 0.998, 0.5]  # 1, 254 and 128
    assert appearance.clipped(pixels) == 3 / 12


@pytest.mark.parametrize("period", PERIODS)
def test_a_lattice_stands_out_by_its_power(period: int) -> None:
    """Rows of amplitude a in noise of variance σ²: 1 + N a² / (144 σ²) in the mean.

    Each of the two frequencies of the wave has N a² / 4, spread over its neighbourhood of nine;
    one of four neighbourhoods has it. At period 2 both frequencies are one, with four times that.
    """
    amplitude, std = 0.02, 0.05
    rows = amplitude * np.cos(2 * np.pi * np.arange(SIZE) / period)[:, None]
    times = 4 if period == 2 else 1
    expected = 1 + times * SIZE**2 * amplitude**2 / (144 * std**2)
    seeds = range(8)
    found = [
        appearance.lattices(grey(white(std, seed=seed)[..., 0]) + rows[..., None]) for seed in seeds
    ]
    # The noise around is a mean over about fifty independent frequencies, at period 2: an eighth
    # of a standard deviation each, a twentieth over the seeds; four of these.
    assert np.median([one[period] for one in found]) == pytest.approx(expected, rel=0.2)
    for other in set(PERIODS) - {period}:
        assert np.median([one[other] for one in found]) == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize("period", [2, 4])
@pytest.mark.parametrize("direction", ["rows", "columns", "diagonal"])
def test_a_lattice_has_its_amplitude(period: int, direction: str) -> None:
    """Of four levels, on a ramp of grey, in a picture whose sides no period divides."""
    y, x = np.mgrid[:83, :101]
    place = {"rows": y, "columns": x, "diagonal": x - y}[direction]
    ramp = np.linspace(0.2, 0.8, 83)[:, None] + 0 * x
    found = appearance.lattice_amplitude(grey(ramp + 4 / 255 * np.cos(2 * np.pi * place / period)))
    # the ramp has a little at these frequencies under the window, and where no period divides the
    # sides up to 15 rows and columns are cut off, which changes neither
    assert found == pytest.approx(4, rel=0.01)


def test_a_picture_without_a_lattice_has_hardly_an_amplitude() -> None:
    # noise of five levels: 2 · 5.1 · 1.5 / √(192 · 256) = 0.07 in the root mean square
    assert appearance.lattice_amplitude(white(0.02, 200, 256)) < 0.5


def test_lattices_need_room() -> None:
    assert appearance.lattice_amplitude(white(0.1, 31, 200)) == 0
    assert appearance.lattices(white(0.1, 31, 200)) == {}


def test_the_photograph_is_kept_by_itself() -> None:
    photograph = smooth(128, 96) / 255
    assert appearance.structure(photograph, photograph) == pytest.approx(1)
    darker = 0.1 + 0.5 * photograph  # brightness and contrast are the painting's
    assert appearance.structure(darker, photograph) == pytest.approx(1, abs=1e-3)  # Lanczos clips
    assert abs(appearance.structure(smooth(128, 96, seed=5) / 255, photograph)) < 0.5
    fine = photograph + np.tile(np.indices((COARSE, COARSE)).sum(0) % 2, (12, 16))[..., None] * 0.1
    assert appearance.structure(fine, photograph) > 0.99  # strokes finer than the content's scale


def test_the_style_left_is_1_of_the_photograph_and_0_of_the_painting() -> None:
    photograph = smooth(48, 36, seed=1).astype(np.float32) / 255
    painting = white(0.2, 36, 48, seed=2).clip(0, 1).astype(np.float32)
    assert appearance.style_left(photograph, photograph, painting) == 1
    assert appearance.style_left(painting, photograph, painting) == 0
    between = appearance.style_left((photograph + painting) / 2, photograph, painting)
    assert 0 < between < 1
