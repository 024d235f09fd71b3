"""The one command that looks at everything on a GPU: what it keeps, what it makes of what it finds.

The stages themselves run here without a GPU, their kernels in the emulator.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.cuda_emulator.library import CSRC
from helpers.tools import load_tool


@pytest.fixture(scope="module")
def check() -> Any:
    return load_tool("gpu_check")


@pytest.fixture(scope="module")
def commands() -> Any:
    return load_tool("gpu_commands")


def stage(check: Any, *points: Any) -> Callable[[], Iterator[Any]]:
    def cases() -> Iterator[Any]:
        for index, point in enumerate(points):

            def look(point: Any = point) -> Any:
                if isinstance(point, Exception):
                    raise point
                return point

            yield check.Case(f"point {index}", look)

    return cases


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_point_is_written_at_once_and_the_worst_decides(check: Any, tmp_path: Path) -> None:
    path = tmp_path / "new" / "points.jsonl"
    good, bad = check.Point(True, "fine", {"x": 1.5}), check.Point(False, "off")
    assert check.look_at({"a": stage(check, good)}, check.Record(path, "m")) == 0
    record = check.Record(path, "m")
    assert check.look_at({"b": stage(check, bad, check.Point(None, "absent"))}, record) == 1
    assert [(r["stage"], r["name"], r["holds"], r["found"]) for r in rows(path)] == [
        ("a", "point 0", True, "fine"),
        ("b", "point 0", False, "off"),
        ("b", "point 1", None, "absent"),
    ]
    assert rows(path)[0]["figures"] == {"x": 1.5}
    assert check.look_at({}, record) == 1  # nothing was looked at


def test_an_error_fails_its_point_and_no_other(check: Any, tmp_path: Path) -> None:
    path = tmp_path / "points.jsonl"
    points = (RuntimeError("illegal address\nmore"), check.Point(True, "fine"))
    assert check.look_at({"a": stage(check, *points)}, check.Record(path, "m")) == 1
    first, second = rows(path)
    assert (first["holds"], first["found"]) == (False, "RuntimeError: illegal address")
    assert "Traceback" in first["figures"]["trace"]
    assert second["holds"] is True


def test_points_are_chosen_by_their_names(check: Any, tmp_path: Path) -> None:
    path = tmp_path / "points.jsonl"
    points = (check.Point(False, "off"), check.Point(True, "fine"))
    assert check.look_at({"a": stage(check, *points)}, check.Record(path, "m"), only="1") == 0
    assert [row["name"] for row in rows(path)] == ["point 1"]


def test_what_is_known_is_not_looked_at_again(check: Any, tmp_path: Path) -> None:
    path = tmp_path / "points.jsonl"
    looked: list[str] = []

    def cases(*holds: bool | None) -> Callable[[], Iterator[Any]]:
        def all_of_them() -> Iterator[Any]:
            for index, value in enumerate(holds):

                def look(index: int = index, value: bool | None = value) -> Any:
                    looked.append(f"{index}")
                    return check.Point(value, "")

                yield check.Case(f"{index}", look)

        return all_of_them

    stages = {"a": cases(True, False, None)}
    check.look_at(stages, check.Record(path, "m"))
    with path.open("a") as file:
        file.write('{"machine": "m", "sta')  # the machine was killed while it wrote
    looked.clear()
    assert check.look_at(stages, check.Record(path, "m")) == 1
    assert looked == ["2"]  # what could not be looked at may be there now
    looked.clear()
    check.look_at(stages, check.Record(path, "m"), again=True)
    assert looked == ["0", "1", "2"]
    looked.clear()
    check.look_at(stages, check.Record(path, "another"))
    assert looked == ["0", "1", "2"]


def test_no_point_is_begun_when_the_time_is_up(
    check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0, 50)  # two readings for the point, one for the limit
    monkeypatch.setattr(check.time, "monotonic", lambda: float(next(clock)))
    path = tmp_path / "points.jsonl"
    points = [check.Point(True, "")] * 4
    stages = {"a": stage(check, *points)}
    assert check.look_at(stages, check.Record(path, "m"), limit=250) == 3
    before = len(rows(path))
    assert 0 < before < 4
    assert check.look_at(stages, check.Record(path, "m"), limit=1e9) == 0
    assert len(rows(path)) == 4


def test_an_unknown_stage_is_refused(check: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        check.main(["--dry-run", "smok"])
    assert "no such stage: smok" in capsys.readouterr().err


# -------------------------------------------------------------------------- the figures judged --


def document(commands: Any, factor: float) -> dict[str, Any]:
    """A benchmark whose figures are ``factor`` times as good as they have to be."""
    found = []
    for wanted, figure, bound, largest in commands.JUDGED.values():
        found.append({**wanted, figure: bound / factor if largest else bound * factor})
    return {"rows": found}


def test_figures_hold_or_fail_by_their_bounds(commands: Any) -> None:
    for title in commands.JUDGED:
        assert commands.judge(document(commands, 1.01), title).holds is True
        assert commands.judge(document(commands, 0.99), title).holds is False
        assert commands.judge({"rows": []}, title).holds is None
        wrong = document(commands, 1.01)
        for row in wrong["rows"]:
            row["suite"] = "another"
        assert commands.judge(wrong, title).holds is None


def test_all_kernels_are_known_by_name(commands: Any) -> None:
    named = commands.our_kernels()
    assert {"gram_partials", "gram_gradient", "history_products", "solver_first"} <= set(named)
    text = "".join(path.read_text() for path in (CSRC / "cuda").glob("*.cu"))
    assert len(named) == len(set(named)) == text.count("__global__")


def test_a_command_says_what_it_said_last(commands: Any) -> None:
    code = "import sys; print('one'); print('two', file=sys.stderr); print(); sys.exit(3)"
    assert commands.run((sys.executable, "-u", "-c", code), time.monotonic() + 60) == (3, "two")


def test_a_command_ends_with_the_time_of_them_all(
    commands: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "MARGIN", 0.1)
    code = "import time; time.sleep(600)"
    found, said = commands.run((sys.executable, "-c", code), time.monotonic())
    assert found == 124
    assert "give the same command again" in said


def test_the_tests_of_a_gpu_are_found(commands: Any, tmp_path: Path) -> None:
    class Where:
        dry, out, ends = True, tmp_path, time.monotonic() + 60

    names = [case.name for case in commands.tests(Where())]
    assert "tests/gpu/test_gpu.py" in names
    assert "tests/ops/test_cuda_ops.py" in names


# ---------------------------------------------------------------------------------- the dry run --


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not on the path")
@pytest.mark.skipif(sys.platform != "linux", reason="the emulator is written for Linux")
@pytest.mark.skipif(not CSRC.is_dir(), reason="not in a checkout")
def test_every_stage_runs_without_a_gpu(
    check: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = check.main(["--dry-run", "--out", str(tmp_path), "--limit", "3600"])
    out = capsys.readouterr().out
    found = rows(tmp_path / "points.jsonl")
    failed = [row for row in found if row["holds"] is False]
    assert not failed, failed
    stages = load_tool("gpu_stages").STAGES
    assert {row["stage"] for row in found} == set(stages)
    assert all(row["holds"] for row in found), out
    assert code == 0
