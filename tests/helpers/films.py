"""Small clips for tests."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from fastnst.images.encode import save_image
from fastnst.network.weights import Weights
from fastnst.output.encoder import Colours, Encoder
from fastnst.settings.settings import Settings
from fastnst.video import film as films
from fastnst.video.flow import Frame

LAYERS = {"content_layers": ("relu2_2",), "style_layers": ("relu1_1", "relu2_1")}


def texture(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """A smooth random picture, ``(H, W, 3)`` float32."""
    coarse = torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return fine[0].permute(1, 2, 0).clamp(0, 1).numpy()


def pan(count: int, height: int = 32, width: int = 40, step: int = 2, seed: int = 0) -> list:
    """Frames ``(H, W, 3)`` of a camera that moves right by whole pixels."""
    wide = texture(height, width + step * count, seed)
    return [np.ascontiguousarray(wide[:, step * k : step * k + width]) for k in range(count)]


def pan_flow(step: int = 2):
    """The true flow of ``pan``."""

    def flow(first: Frame, second: Frame) -> torch.Tensor:
        height, width, _ = first.pixels.shape
        found = torch.zeros(height, width, 2)
        found[..., 0] = step * (first.index - second.index)
        return found

    return flow


def settings(**further) -> Settings:
    """A quick run on layers that the random weights have."""
    return Settings(
        **{"size": 0, "iterations": 6, "optimizer": "spectral", "engine": "torch", **LAYERS}
        | further
    )


@pytest.fixture
def quick(random_weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs have random weights, to conv3_1."""
    monkeypatch.setattr("fastnst.run.prepare.load_weights", lambda *_: random_weights)


def write_clip(
    path: Path,
    frames: list,
    times: list | None = None,
    colours: Colours | None = None,
    rate: int = 25,
) -> Path:
    """An MP4 file of these frames."""
    encoder = Encoder(path, Fraction(rate), colours or Colours("bt601"))
    for k, pixels in enumerate(frames):
        encoder.add(pixels, None if times is None else Fraction(times[k]))
    encoder.finish()
    return path


def brightening(folder: Path, count: int, low: float = 0.5) -> Path:
    """A folder of frames of a pan on which it gets light, so that no frame is done at once."""
    folder.mkdir()
    for k, pixels in enumerate(pan(count)):
        save_image(pixels * np.float32(low + 0.1 * k), folder / f"{k}.png")
    return folder


def make(film: films.Film, count: int | None = None, resume: bool = False) -> None:
    """Make a film, or so many frames of it as if it were killed then."""
    films.check(film, resume)
    for _ in itertools.islice(films.make(film, resume), count):
        pass
    if count is None:
        films.write(film)
        films.finish(film)
