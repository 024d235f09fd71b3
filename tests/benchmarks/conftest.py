"""Fixtures of the benchmark's tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from benchmarks import measure
from benchmarks.rows import COLUMNS


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _small_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches are emptied with a megabyte: nothing here depends on what a timing is."""
    monkeypatch.setattr(measure, "FLUSH_BYTES", 2**20)


@pytest.fixture
def document() -> dict[str, Any]:
    row = {
        **dict.fromkeys(COLUMNS),
        "suite": "evaluation",
        "case": "loss and gradient",
        "device": "cpu",
        "dtype": "fp32",
        "size": 256,
        "seconds_iqr": 0.1,
        "runs": 5,
        "reference_seconds": 2.0,
    }
    common = {**row, "suite": "loss", "case": "a + b, seed 0", "target": 3.0, "evaluations": 9}
    memory_row = {
        **row,
        "suite": "memory",
        "seconds": None,
        "peak_bytes": 2**31,
        "own_bytes": 2**30,
    }
    rows = [
        {**row, "implementation": "reference", "seconds": 2.0, "speedup": 1.0},
        {**row, "implementation": "good", "seconds": 1.0, "speedup": 2.0, "gradient_error": 3e-7},
        {**row, "implementation": "bad", "seconds": 4.0, "speedup": 0.5},
        {**row, "implementation": "none", "error": "no | luck", "runs": 0},
        {
            **common,
            "implementation": "reference",
            "seconds": 2.0,
            "curve": [[1.0, 9.0], [2.0, 3.0]],
        },
        {**common, "implementation": "x", "seconds": None, "error": "not", "curve": [[1.0, 4.0]]},
        {**memory_row, "implementation": "reference", "baseline_bytes": 2**30, "memory_ratio": 1.0},
    ]
    environment = {
        "machine": "A machine",
        "threads": 2,
        "torch": "2.9",
        "fastnst": "1",
        "date": "2025-01-01",
        "instruction_set": "avx2",
    }
    return {"environment": environment, "rows": rows}
