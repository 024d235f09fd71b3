"""Fixtures that every test may use."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from fastnst.network.weights import Weights
from helpers import REPOSITORY
from helpers.networks import made_of_noise
from helpers.pictures import smooth


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_answered() -> Iterator[None]:
    """Programs that tests start answer Ctrl-C, also where the tests run in the background.

    A shell lets what it starts with ``&`` ignore the signal, and so would all that these start.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def random_weights() -> Weights:
    """A VGG-19 to conv3_1 with random weights: quick, and no file is needed."""
    return made_of_noise()


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., Path]:
    """``photo("a.png", width, height)`` writes a picture with structure and returns its path."""

    def write(name: str, width: int = 48, height: int = 36, seed: int = 0, **save: object) -> Path:
        path = tmp_path / name
        Image.fromarray(smooth(width, height, seed)).save(path, **save)
        return path

    return write
