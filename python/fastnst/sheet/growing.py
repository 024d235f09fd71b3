"""The file of a sheet that grows with it."""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from fastnst.run.rescue import rescue

if TYPE_CHECKING:
    from typing_extensions import Self

    from fastnst.sheet.sheet import Sheet

EVERY = 5.0  # seconds between two files on the way, at least: each is all of the sheet


class GrowingFile:
    """Writes a sheet as it grows: after its first cell, then every ``EVERY`` seconds if it grew.

    It is a context, at the end of which the rest is written, whatever ends it.

    Args:
        sheet: The sheet.
        path: Its file.
    """

    def __init__(self, sheet: Sheet, path: Path) -> None:
        self._sheet, self._path = sheet, path
        self._cells = 0  # of those that are done, how many the file has
        self._at = -math.inf

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._write()

    @property
    def is_whole(self) -> bool:
        """Whether the file has all that is done."""
        return self._cells == len(self._sheet.outcomes)

    def update(self) -> None:
        """To be called after each step and each cell.

        Raises:
            OutputFailed: if the file cannot be written; it is not tried again.
        """
        if time.monotonic() - self._at >= EVERY:
            self._write()

    def _write(self) -> None:
        if self.is_whole:
            return
        self._cells = len(self._sheet.outcomes)
        rescue(self._path, self._sheet.save)
        self._at = time.monotonic()
