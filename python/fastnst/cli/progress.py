"""A live bar on stderr: loss, evaluations a second, time elapsed and time left.

Where there are fewer than 72 columns the bar and the times stay, and the rest goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from fastnst.cli import console
from fastnst.settings.settings import Settings

if TYPE_CHECKING:
    from typing_extensions import Self

    from fastnst.run.step import Step

NARROW = 72  # columns, below which only the bar and the times are shown


Late = Callable[[], Sequence[int]]  # the ranks that are waited for


class LateColumn(ProgressColumn):
    """Names the ranks that all others wait for, where there are some.

    Args:
        late: Says which.
    """

    def __init__(self, late: Late) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self.late = late

    def render(self, _: Task) -> Text:
        """What is shown at the moment."""
        ranks = self.late()
        names = ", ".join(map(str, ranks))
        return Text(f"waiting for rank{'s' if len(ranks) > 1 else ''} {names}" if ranks else "")


def columns(width: int, late: Late | None = None) -> list[ProgressColumn]:
    """What the bar shows on a terminal of so many columns.

    Args:
        width: The columns.
        late: Says which of several ranks are waited for; None: there are none.
    """
    times: list[ProgressColumn] = [
        TextColumn("elapsed", table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("left", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
    ]
    if width < NARROW:
        return [BarColumn(bar_width=max(4, min(20, width - 31))), *times]
    return [
        TextColumn(
            "{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
        ),
        BarColumn(bar_width=max(8, min(40, width - 74))),
        TextColumn("{task.completed}/{task.total}", table_column=Column(no_wrap=True)),
        *([] if width < 100 else [TextColumn("{task.fields[rate]}")]),
        *([] if late is None else [LateColumn(late)]),
        *times,
    ]


def make_bar(show: bool, screen: Console | None = None, late: Late | None = None) -> Progress:
    """A bar on stderr, or on another console; without a terminal it shows nothing."""
    screen = console.err() if screen is None else screen
    return Progress(
        *columns(screen.width, late),
        console=screen,
        disable=not (show and screen.is_terminal),
        transient=True,
        expand=screen.width >= NARROW,
    )


class ProgressBar:
    """Shows the steps of a run, if stderr is a terminal.

    Args:
        settings: The run's settings.
        show: Whether to show the bar at all.
        late: As for ``columns``.
    """

    def __init__(self, settings: Settings, show: bool, late: Late | None = None) -> None:
        self.bar = make_bar(show, late=late)
        self.task = self.bar.add_task("preparing", total=settings.iterations, rate="")

    def __enter__(self) -> Callable[[Step], None]:
        self.bar.start()
        return self.update

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def update(self, step: Step) -> None:
        """Show a step."""
        rate = step.evaluations / step.seconds if step.seconds else 0.0
        scale = f"scale {step.scale}/{step.scales}  " if step.scales > 1 else ""
        self.bar.update(
            self.task,
            completed=step.iteration,
            total=step.iterations,
            description=f"{scale}loss {step.losses.total:.4g}",
            rate=f"{rate:.2f} evaluations/s",
        )


class SeriesBar:
    """Shows the iterations of several runs together, if stderr is a terminal.

    Args:
        iterations: Those of each run.
        show: Whether to show the bar at all.
    """

    def __init__(self, iterations: Sequence[int], show: bool) -> None:
        self.bar = make_bar(show)
        self.iterations = list(iterations)
        self.done = [0] * len(iterations)
        self.task = self.bar.add_task("preparing", total=sum(iterations), rate="")

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def step(self, index: int, name: str, iteration: int, loss: float) -> None:
        """Show a step of one of the runs.

        Args:
            index: The number of the run, from 0.
            name: The run's name.
            iteration: Its iterations so far.
            loss: L(x).
        """
        self.done[index] = min(iteration, self.iterations[index])
        self.bar.update(
            self.task,
            completed=sum(self.done),
            description=f"{index + 1}/{len(self.done)} {escape(name)}",
            rate=f"loss {loss:.4g}",
        )

    def end(self, index: int) -> None:
        """Count a run as ended, whatever became of it."""
        self.done[index] = self.iterations[index]
