"""A live bar on stderr: loss, evaluations a second, time left."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fastnst import batch
from fastnst.cli import console
from fastnst.run.result import Step
from fastnst.settings.settings import Settings


def _bar(show: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console.err,
        disable=not (show and console.err.is_terminal),
        transient=True,
    )


class ProgressBar:
    """Shows the steps of a run, if stderr is a terminal.

    Args:
        settings: Of the run.
        show: False for none.
    """

    def __init__(self, settings: Settings, show: bool) -> None:
        self.bar = _bar(show)
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


class BatchBar:
    """Shows the iterations of a whole batch, if stderr is a terminal.

    Args:
        jobs: Those to be run.
        show: False for none.
    """

    def __init__(self, jobs: Sequence[batch.Job], show: bool) -> None:
        self.bar = _bar(show)
        iterations = [job.settings.iterations for job in jobs]
        self.before = list(itertools.accumulate(iterations, initial=0))
        self.task = self.bar.add_task("preparing", total=self.before[-1], rate="")

    def __enter__(self) -> Callable[[batch.Progress], None]:
        self.bar.start()
        return self.update

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def update(self, progress: batch.Progress) -> None:
        """Show a step of one of the jobs."""
        name = escape(progress.job.output.name)
        self.bar.update(
            self.task,
            completed=self.before[progress.index] + progress.step.iteration,
            description=f"{progress.index + 1}/{len(self.before) - 1} {name}",
            rate=f"loss {progress.step.losses.total:.4g}",
        )
