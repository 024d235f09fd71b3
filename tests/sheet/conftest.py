"""Fixtures of the contact sheets' tests."""

from __future__ import annotations

import pytest

from fastnst.network.weights import Weights


@pytest.fixture
def quick(random_weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs have random weights, to conv3_1."""
    monkeypatch.setattr("fastnst.run.prepare.load_weights", lambda *_: random_weights)
