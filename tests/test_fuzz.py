"""A short run of the fuzzer; its long run is a command (see ``tools/fuzz.py``)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "fuzz.py"


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("pictures", 250),
        ("exif", 60),
        ("masks", 40),
        ("weights", 40),
        ("tomls", 150),
        ("checkpoints", 100),
    ],
)
def test_damaged_inputs_are_read_or_refused(tmp_path: Path, kind: str, count: int) -> None:
    spec = importlib.util.spec_from_file_location("fuzz", TOOL)
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    cases = fuzz.Cases(kind, 7, tmp_path)
    failures = []
    for index in range(count):  # in this process: the watchdog belongs to the long run
        what, why = fuzz.outcome(cases, index)
        if what == "failed":
            failures.append(f"{index}: {why}")
    assert not failures
