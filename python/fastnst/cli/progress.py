"""A live bar on stderr: loss, evaluations a second, time left."""

from __future__ import annotations

from collections.abc import Callable

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fastnst.cli import console
from fastnst.settings import Settings
from fastnst.stylize import Step


class ProgressBar:
    """Shows the steps of a run, if stderr is a terminal.

    Args:
        settings: Of the run.
        show: False for none.
    """

    def __init__(self, settings: Settings, show: bool) -> None:
        self.bar = Progress(
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
