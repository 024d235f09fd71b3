"""Fixtures that every test may use, and how the tests are shared out among processes.

``python -m pytest`` starts a process for each processor (pytest-xdist), and each of them computes
with one thread: most pictures are so small that a second thread only waits. A test that is about
threads sets their number itself, and the kernels' rooms always compute with two.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported, and for programs of tests too
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # where a test has two: others wait too

from helpers import REPOSITORY

if TYPE_CHECKING:
    from PIL import Image

    from fastnst.network.weights import Weights

MOST = 8  # workers: each takes a gigabyte of memory


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Where nobody says how many workers (``-n``), there is one for each processor.

    Files and tests that are named run in this process, at once, where a debugger sees them; and so
    do those of a GPU, of which there is one.
    """
    option = config.option
    if getattr(option, "numprocesses", 0) is not None or option.dist != "no" or option.usepdb:
        return  # it was said, or there is no pytest-xdist
    if "PYTEST_XDIST_WORKER" in os.environ or option.markexpr == "gpu":
        return
    if all("::" in name or name.endswith(".py") for name in config.args):
        return
    known = getattr(os, "sched_getaffinity", None)
    processors = len(known(0)) if known is not None else os.cpu_count() or 1
    option.numprocesses = min(processors, MOST)
    option.dist = "worksteal"  # neighbours stay together: they share what a module makes


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_answered() -> Iterator[None]:
    """Programs that tests start answer Ctrl-C, also where the tests run in the background.

    A shell lets what it starts with ``&`` ignore the signal, and so would all that these start.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run of the tests, the same one in each of its processes."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def _samples_are_drawn_once(shared_folder: Path) -> Iterator[None]:
    """``samples.load`` draws a picture for the first test that asks, in whatever process it is.

    Drawing one takes a second or more. ``samples.find(name).draw()`` still draws;
    tests/samples/test_samples.py compares both.
    """
    from fastnst import samples
    from helpers.once import made_once

    @functools.cache
    def drawn(name: str) -> Image.Image:
        from PIL import Image

        draw = samples.find(name).draw
        path = made_once(shared_folder / f"sample-{name}.png", lambda path: draw().save(path))
        with Image.open(path) as stored:
            return stored.copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "load", lambda name: drawn(name).copy())
        yield


@pytest.fixture(scope="session", autouse=True)
def _weights_are_read_once() -> Iterator[None]:
    """The built-in weights are decoded for the first test that asks: 20 million of them.

    Tests of what reads them take ``weights_as_they_are_read``.
    """
    from fastnst.network import weights

    read = weights._built_in
    remembered = functools.cache(read)

    @functools.wraps(read)
    def built_in(source: str | Path) -> Weights | None:
        return remembered(source) if source in ("vgg19", "vgg19-normalised") else read(source)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "_built_in", built_in)
        yield


@pytest.fixture
def weights_as_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of what was read for another test is used."""
    from fastnst.network import weights

    monkeypatch.setattr(weights, "_built_in", weights._built_in.__wrapped__)


@pytest.fixture
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def random_weights() -> Weights:
    """A VGG-19 to conv3_1 with random weights: quick, and no file is needed."""
    from helpers.networks import made_of_noise

    return made_of_noise()


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., Path]:
    """``photo("a.png", width, height)`` writes a picture with structure and returns its path."""
    from PIL import Image

    from helpers.pictures import smooth

    def write(name: str, width: int = 48, height: int = 36, seed: int = 0, **save: object) -> Path:
        path = tmp_path / name
        Image.fromarray(smooth(width, height, seed)).save(path, **save)
        return path

    return write
