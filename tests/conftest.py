"""Fixtures that every test may use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from fastnst.network.vgg import VGG19
from fastnst.network.weights import CAFFE, Weights
from helpers import REPOSITORY
from helpers.pictures import smooth


@pytest.fixture
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def random_weights() -> Weights:
    """A VGG-19 to conv3_1 with random weights: quick, and no file is needed."""
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, (channels_in, channels_out) in list(VGG19.convolutions().items())[:5]:
        shape = (channels_out, channels_in, 3, 3)
        std = (2 / (9 * channels_in)) ** 0.5
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) * std
        tensors[f"{name}.bias"] = torch.randn(channels_out, generator=generator) * 0.1
    tensors["conv1_1.weight"] = tensors["conv1_1.weight"] / 50  # its input is in 0–255
    return Weights("random", "0" * 64, VGG19, CAFFE, tensors)


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., Path]:
    """``photo("a.png", width, height)`` writes a picture with structure and returns its path."""

    def write(name: str, width: int = 48, height: int = 36, seed: int = 0, **save: object) -> Path:
        path = tmp_path / name
        Image.fromarray(smooth(width, height, seed)).save(path, **save)
        return path

    return write
