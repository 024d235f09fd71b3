"""Contestants in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import contestants


@pytest.mark.slow
def test_a_process_that_dies_is_an_error_and_no_hang(tmp_path: Path) -> None:
    task = contestants.Task("sample:harbour", "sample:swirl", 32, 0, "cpu", 1, 4)
    runner = contestants.Runner(contestants.REFERENCE, task, tmp_path / "reference")
    runner.wait()
    runner.process.kill()
    runner.advance()
    assert runner.ended
    assert runner.error is not None
    runner.stop()
