"""The suite of ranks: who shares what, and the bytes that are counted beside the model's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.options import Options
from benchmarks.scaling_model import exchanged_bytes
from benchmarks.suite import Case
from benchmarks.suites import scaling
from benchmarks.suites.scaling import Team, sent_by_model
from fastnst.ops import extension
from helpers.kernels import needs_native


def test_who_shares_what() -> None:
    assert scaling.strong(512, 4) == [
        Team(1, 4, 512, 512, launched=False),
        Team(1, 4, 512, 512), Team(2, 2, 512, 512), Team(4, 1, 512, 512)
    ]  # fmt: skip
    assert [team.name for team in scaling.strong(512, 3)] == ["one piece", "1 rank of 3 threads"]
    assert scaling.weak(512, 2) == [Team(1, 1, 512, 512), Team(2, 1, 512, 1024)]
    assert [team.name for team in scaling.weak(512, 2)] == [
        "1 rank of 1 thread", "2 ranks of 1 thread"
    ]  # fmt: skip


def test_bytes_by_the_model() -> None:
    """Rows of each layer, triangles in two integers, 19 scalars a band and two numbers."""
    integers = sum(2 * (n * (n + 1) // 2 + 1) for n in (64, 128, 256, 512, 512))
    sums = 8 * (integers + 4 * (2 + 5 + 4 * 3) + 2)
    rows = exchanged_bytes(640)
    assert rows == 4 * 640 * 1323  # values for each column: tests/benchmarks/test_scaling_model.py
    assert sent_by_model(Team(2, 1, 640, 480), 4) == rows + sums
    assert sent_by_model(Team(4, 1, 640, 480), 4) == 2 * rows + 1.5 * sums
    assert sent_by_model(Team(1, 1, 640, 480), 4) == 0


@needs_native  # by whose tiles the bands are cut
def test_bytes_of_spectra_by_the_model() -> None:
    """Three and two bands of 96 rows, 192 and 129 columns of the half spectrum."""
    integers = sum(2 * (n * (n + 1) // 2 + 1) for n in (64, 128, 256, 512, 512))
    rows = exchanged_bytes(640)
    sums = 8 * (integers + 5 * (2 + 9 + 126) + 7)
    spectra = 24 * (3 * 288 * 129 + 192 * 192), 24 * (3 * 192 * 192 + 129 * 288)
    found = sent_by_model(Team(2, 1, 640, 480), 5, "spectral")
    assert found == rows + sums + max(spectra)


def test_rows_of_what_the_ranks_have_written(monkeypatch: pytest.MonkeyPatch) -> None:
    teams = []

    def start(team, command, say):
        teams.append((team.ranks, team.launched))
        if len(teams) == 5:
            say("rank 1 was ended by signal 9")
            return 1
        for rank in range(team.ranks):
            found = {"seconds": [2.0 - rank] * 3, "sent": 5 + rank, "bands": 4}
            Path(command[1], f"{rank}.json").write_text(json.dumps(found))
        return 0

    monkeypatch.setattr(scaling, "start", start)
    options = Options(threads=2)
    rows = [row for title in ("strong", "weak")
            for row in scaling.measure(Case(title, 512), options)]  # fmt: skip
    assert teams == [(1, False), (1, True), (2, True), (1, True), (2, True)]
    assert [row.error for row in rows] == [*[None] * 4, "rank 1 was ended by signal 9"]
    assert [row.seconds for row in rows[:4]] == [2.0] * 4  # the slowest rank's
    assert "sent" not in rows[0].extra
    assert rows[2].extra["sent"] == 6
    assert rows[2].speedup == 1
    assert "bytes sent" in scaling.table([row.to_dict() for row in rows])


@pytest.mark.slow
@pytest.mark.skipif(not extension.is_available(), reason="no compiled extension")
@pytest.mark.parametrize("title", ["strong", "spectral"])
def test_the_bytes_are_those_of_the_model(title: str) -> None:
    options = Options(threads=2, quick=True)
    alone, one, two = scaling.measure(Case(title, 352), options)  # enough for two bands
    assert alone.error is None
    assert alone.seconds > 0
    assert one.error is None
    assert two.error is None
    assert one.extra["sent"] == one.extra["model"] == 0
    assert two.extra["sent"] == two.extra["model"]
    assert one.seconds > 0
    assert two.seconds > 0
