"""Fixtures of the tests of batches."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.batches import write_pictures


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two contents, two styles and what is no picture."""
    return write_pictures(tmp_path)
