"""The suite ``memory``."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from benchmarks.options import Options
from benchmarks.suites import memory
from helpers.benchmarks import good, run_suites


@pytest.mark.slow
def test_memory(tmp_path: Path) -> None:
    rows = run_suites(tmp_path, "memory", "--skip", "native", "--skip", "onnx")
    (reference,) = good(rows, "reference")
    assert reference["peak_bytes"] > reference["baseline_bytes"] > 50 * 2**20
    assert reference["own_bytes"] == reference["peak_bytes"] - reference["baseline_bytes"]
    assert good(rows, "torch fp32")
    assert good(rows, "torch bf16")


def test_memory_sees_what_is_allocated() -> None:
    before = memory.begin_peak("cpu")
    size = 64 * 2**20
    with mmap.mmap(-1, size) as block:
        block.write(bytes(size // 2))
        block.write(bytes(size // 2))
    assert memory.peak_bytes("cpu") - before > 60 * 2**20


def test_on_a_gpu_there_are_fewer_processes() -> None:
    assert [c.size for c in memory.cases(Options(device="cuda"))] == [512, 1024]
