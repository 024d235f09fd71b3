"""What the benchmark is doing, on stderr."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Progress:
    """A bar for each suite on a terminal, a line for each case elsewhere."""

    def __init__(self, silent: bool = False) -> None:
        self.console = Console(stderr=True, quiet=silent, highlight=False)
        self.bars = Bars(
            TextColumn("{task.fields[suite]:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=self.console,
            disable=silent or not self.console.is_terminal,
        )
        self.task: TaskID | None = None
        self.suite = ""
        self.began = time.perf_counter()

    def __enter__(self) -> None:
        self.began = time.perf_counter()
        self.bars.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.stop()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self.began

    def begin(self, suite: str, cases: int) -> None:
        """A suite with so many cases begins."""
        self.suite = suite
        self.task = self.bars.add_task("", total=cases, suite=suite)

    def say(self, what: str) -> None:
        """The next thing begins."""
        if self.console.is_terminal:
            if self.task is not None:
                self.bars.update(self.task, description=what)
        else:
            self.console.print(f"{self.seconds:7.1f} s  {self.suite:<10} {what}", soft_wrap=True)

    def advance(self) -> None:
        """A case is done."""
        if self.task is not None:
            self.bars.advance(self.task)
