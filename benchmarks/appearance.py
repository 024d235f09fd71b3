"""What the eye finds in a picture, as numbers: grain, fringes, clipping, lattices, what was kept.

Pictures are arrays ``(H, W, 3)``, RGB in [0, 1]. Frequencies are in cycles per pixel, so that the
power of a picture does not depend on how large the piece of it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import setups
from fastnst import gram_matrix
from fastnst.images.pixels import resize, to_tensor
from fastnst.network.normalization import Normalization
from fastnst.network.vgg import VGG
from fastnst.settings.settings import STYLE_LAYERS

Floats: TypeAlias = NDArray[Any]
CHANNELS = ("L", "U", "V")
# Octaves, the last of them cut at what both axes can show; no corners, where only diagonals live.
BANDS = ((1 / 64, 1 / 32), (1 / 32, 1 / 16), (1 / 16, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 3 / 8),
         (3 / 8, 1 / 2))  # fmt: skip
PERIODS = (2, 4, 8, 16)  # pixels: those of VGG's poolings
COARSE = 8  # pixels: the spacing of the features at relu4_2, which hold the content
UNSEEN = 0.5**0.5  # of the size that was optimised


def channels(pixels: Floats) -> Floats:
    """Luminance L (Rec. 601) and the colour differences U = B − L and V = R − L, ``(3, H, W)``."""
    rgb = np.asarray(pixels, np.float64)
    luminance = rgb @ np.array([0.299, 0.587, 0.114])
    return np.stack([luminance, rgb[..., 2] - luminance, rgb[..., 0] - luminance])


def spectrum(channel: Floats) -> Floats:
    """Power by frequency of ``(H, W)`` under a Hann window, as ``np.fft.fft2`` orders it.

    White noise of variance σ² has an expectation of σ² at every frequency.
    """
    height, width = channel.shape
    window = np.hanning(height)[:, None] * np.hanning(width)[None]
    centred = channel - (channel * window).sum() / window.sum()
    power: Floats = np.abs(np.fft.fft2(centred * window)) ** 2 / (window**2).sum()
    return power


def power(pixels: Floats) -> Floats:
    """Mean power of L, U and V in each of ``BANDS``, ``(3, len(BANDS))``; 0 in an empty band."""
    planes = channels(pixels)
    rows, columns = (np.fft.fftfreq(n) for n in planes.shape[1:])
    radius = np.hypot(rows[:, None], columns[None])
    found = np.zeros((len(planes), len(BANDS)))
    for index, plane in enumerate(planes):
        values = spectrum(plane)
        for band, (low, high) in enumerate(BANDS):
            inside = (radius >= low) & (radius < high)
            found[index, band] = values[inside].mean() if inside.any() else 0.0
    return found


def clipped(pixels: Floats) -> float:
    """The share of values that are 0 or 1 once the picture is saved in 8 bits."""
    levels = np.rint(np.asarray(pixels, np.float64) * 255)
    return float(((levels <= 0) | (levels >= 255)).mean())


def lattices(pixels: Floats) -> dict[int, float]:
    """How much a lattice of each of ``PERIODS`` stands out of the spectrum; 1: not at all.

    The power where the lattice's rows, columns and diagonals have theirs (three frequencies by
    three, since the window spreads a line over that many) over the power around, between three and
    six frequencies away. Of L, U and V the largest counts.
    """
    height, width = (n - n % max(PERIODS) for n in pixels.shape[:2])
    if min(height, width) < 2 * max(PERIODS):
        return {}
    planes = channels(pixels[:height, :width])
    spectra = [spectrum(plane) for plane in planes]
    return {period: max(_peak(values, period) for values in spectra) for period in PERIODS}


def lattice_amplitude(pixels: Floats) -> float:
    """The largest amplitude of a lattice of 2 or 4 pixels, over rows, columns and diagonals.

    Of the cosine of that very frequency in L, U and V, in levels of eight bits: below a half no
    saved picture shows it, however far it stands out of a spectrum that has hardly anything there.
    (At 8 and 16 pixels pictures have as much of their own.)
    """
    height, width = (n - n % max(PERIODS) for n in pixels.shape[:2])
    if min(height, width) < 2 * max(PERIODS):
        return 0.0
    window = np.hanning(height)[:, None] * np.hanning(width)[None]
    largest = 0.0
    for plane in channels(pixels[:height, :width]):
        values = np.sqrt(spectrum(plane) * (window**2).sum()) / window.sum()
        for period in PERIODS[:2]:
            down, right = height // period, width // period
            both = 1 if period == 2 else 2  # a cosine is in two places, but where they are one
            for row, column in ((down, 0), (0, right), (down, right), (-down, right)):
                largest = max(largest, both * float(values[row, column]))
    return largest * 255


def _peak(values: Floats, period: int) -> float:
    height, width = values.shape
    down, right = height // period, width // period
    offsets = np.arange(-6, 7)
    distance = np.maximum(np.abs(offsets)[:, None], np.abs(offsets)[None])
    peak, around = [], []
    for row, column in ((down, 0), (0, right), (down, right), (down, -right)):
        patch = values[np.ix_((row + offsets) % height, (column + offsets) % width)]
        peak.append(patch[distance <= 1].mean())
        around.append(patch[distance >= 3].mean())
    whole = float(np.mean(around))
    return float(np.mean(peak)) / whole if whole else 1.0


def structure(pixels: Floats, content: Floats) -> float:
    """How much of the photograph is kept: SSIM of the luminance, 1 for the photograph itself.

    At the scale of the content: both are reduced by ``COARSE`` first. Brightness and contrast
    belong to the painting, so the luminance gets the photograph's mean and standard deviation.
    """
    from skimage.metrics import structural_similarity

    made, own = (channels(_reduced(x, 1 / COARSE))[0] for x in (pixels, content))
    if made.std() > 0:
        made = (made - made.mean()) / made.std() * own.std() + own.mean()
    side = min(7, min(own.shape) - 1 + min(own.shape) % 2)  # the window's: odd, and it must fit
    return float(structural_similarity(made, own, data_range=1.0, win_size=side))


def style_left(pixels: Floats, content: Floats, style: Floats) -> float:
    """How far the style is from the painting's: 1 as far as the photograph's, 0 not at all.

    The style losses of the five layers, each over the photograph's, in the mean; at ``UNSEEN`` of
    the size, with max pooling and the network as it was trained, none of which a run of fastnst's
    own presets optimised.
    """
    small = [to_tensor(_reduced(x, UNSEEN)) for x in (pixels, content, style)]
    made, photograph, painting = (_grams(x) for x in small)
    ratios = [
        float((a - c).square().mean() / (b - c).square().mean())
        for a, b, c in zip(made, photograph, painting, strict=True)
    ]
    return sum(ratios) / len(ratios)


def _grams(image: Tensor) -> Sequence[Tensor]:
    loaded = setups.weights("vgg19", "auto")
    network = VGG(loaded.architecture, loaded.tensors, STYLE_LAYERS, "max", "zero")
    normalize = Normalization(loaded.preprocessing.mean, loaded.preprocessing.std)
    with torch.no_grad():
        features = network(normalize(image), STYLE_LAYERS)
        return [gram_matrix(features[name]).double() for name in STYLE_LAYERS]


def _reduced(pixels: Floats, factor: float) -> NDArray[np.float32]:
    height, width = (max(1, round(n * factor)) for n in pixels.shape[:2])
    return resize(np.ascontiguousarray(pixels, np.float32), width, height)
