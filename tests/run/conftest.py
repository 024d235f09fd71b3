"""Fixtures for whole runs."""

from __future__ import annotations

import pytest

from fastnst.engines.planned.cuda import PlannedEngine
from fastnst.objective.build import build_objective
from fastnst.run import preparation


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engine ``native`` is the one of a GPU, on the CPU."""

    def create(weights, content, style, settings, regions=None, cache=None, **more):
        assert more["grid"] is None
        objective = build_objective(weights, content, style, settings, "torch", regions, cache)
        return PlannedEngine(objective, "fp32", cache=cache)

    monkeypatch.setattr(preparation, "create_engine", create)
