"""Fixtures of the engines on kernels."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.kernels import on_two_threads


@pytest.fixture(autouse=True)
def _threads_share_the_work() -> Iterator[None]:
    """Also where tests compute with one thread, for the kernels' work is cut for several."""
    with on_two_threads():
        yield
