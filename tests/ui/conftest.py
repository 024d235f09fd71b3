from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastnst.settings.settings import Settings
from fastnst.ui.limits import Limits
from fastnst.ui.picture_wish import PictureWish
from fastnst.ui.studio import Job, Studio


@pytest.fixture
def small() -> Settings:
    return Settings(
        size=48, iterations=4, style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_1",)
    )


@pytest.fixture
def studio(small) -> Iterator[Studio]:
    made = Studio(Limits(megapixels=0.1, size=64, iterations=100_000), small)
    yield made
    made.close()


@pytest.fixture
def wish(photo, small) -> PictureWish:
    return PictureWish(str(photo("c.png")), (str(photo("s.png", 40, 44, seed=1)),), small)


def ended(job: Job, seconds: float = 120) -> Job:
    deadline = time.monotonic() + seconds
    while job.active:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return job


@pytest.fixture
def finish() -> Callable[[Job], Job]:
    return ended


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    path = tmp_path / "empty.png"
    path.write_bytes(b"")
    return path
