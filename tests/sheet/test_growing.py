"""The file of a sheet: what is done is in it soon, and it is not written for every cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastnst.errors import OutputFailed
from fastnst.sheet import growing
from fastnst.sheet.growing import EVERY, GrowingFile


class Grows:
    """Stands for a sheet: its file has the number of its cells."""

    def __init__(self) -> None:
        self.outcomes: list[Any] = []
        self.saved: list[int] = []

    def save(self, path: Path) -> None:
        self.saved.append(len(self.outcomes))
        path.write_text(str(len(self.outcomes)))


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(growing, "time", made)
    return made


def test_it_is_written_every_few_seconds_and_at_the_end(tmp_path: Path, clock: Clock) -> None:
    sheet = Grows()
    with GrowingFile(sheet, tmp_path / "a") as file:
        file.update()  # before there is a cell
        assert sheet.saved == []
        for _ in range(10):  # ten cells in two seconds
            sheet.outcomes.append(None)
            file.update()
            clock.now += 0.2
        assert sheet.saved == [1]
        clock.now += EVERY
        file.update()  # a step of the next cell
        file.update()
        assert sheet.saved == [1, 10]
        clock.now += EVERY
        file.update()  # nothing new
        assert sheet.saved == [1, 10]
        sheet.outcomes.append(None)
        file.update()
        sheet.outcomes.append(None)
        file.update()
        assert sheet.saved == [1, 10, 11]
    assert sheet.saved == [1, 10, 11, 12]


def make(sheet: Any, path: Path, count: int) -> None:
    """Make so many cells, and be interrupted."""
    with GrowingFile(sheet, path) as file:
        for _ in range(count):
            sheet.outcomes.append(None)
            file.update()
        raise KeyboardInterrupt


def test_what_is_done_is_written_whatever_ends_it(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(KeyboardInterrupt):
        make(Grows(), tmp_path / "a", 3)
    assert (tmp_path / "a").read_text() == "3"


def test_a_file_that_cannot_be_written_is_tried_once(tmp_path: Path, clock: Clock) -> None:
    tried: list[Path] = []

    def fails(path: Path) -> None:
        tried.append(path)
        raise OutputFailed("no space")

    sheet = Grows()
    sheet.save = fails
    with pytest.raises(OutputFailed, match="no space"):
        make(sheet, tmp_path / "a", 1)
    assert len(tried) == 1
