"""What the commands that make one picture have in common: the bar, the file, the ways to end."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fastnst.cli.console import complain, say
from fastnst.cli.interrupts import Interrupts
from fastnst.errors import FastNSTError, OutputFailed
from fastnst.ranks.launch import is_rank, writes
from fastnst.settings.settings import HISTORY_SIZE_WHEN_LARGE, Settings

if TYPE_CHECKING:
    from fastnst.run.result import Result
    from fastnst.run.step import Step

Listener = Callable[["Step"], None]


def produce(
    work: Callable[[Listener], Result],
    settings: Settings,
    output: Path,
    *,
    bits: int,
    pyramid: bool = False,
    quiet: bool,
    as_json: bool,
    plot: Path | None = None,
    listeners: Callable[[contextlib.ExitStack], Sequence[Listener]] = lambda _: (),
) -> None:
    """Make a picture and save it, with what there is of it if the work ends early.

    The output was checked before. Of several ranks, rank 0 alone shows progress, saves and says
    what became of it; the others wait until it has.

    Args:
        work: Takes a callback for its steps and returns the result.
        settings: The run's settings.
        output: Where to save the picture.
        bits: 8, or 16 for PNG and TIFF.
        pyramid: Whether a TIFF file also holds reduced pictures.
        quiet: Whether to print errors only.
        as_json: Whether to print the record of the run on stdout.
        plot: Where to draw the course of the losses, or None.
        listeners: Who else hears of the steps, on every rank, since all of them together make the
            picture of a step; what they open closes with the stack.

    Raises:
        typer.Exit: with the code of a signal, or 1 for a loss that is not finite, and for something
            beside the picture that cannot be written.
    """
    from fastnst.cli.progress import ProgressBar
    from fastnst.ranks.communication import current
    from fastnst.run.ending import Diverged, Interrupted, Unsaved
    from fastnst.run.rescue import save_or_rescue

    mine = writes()
    late = current().late if current().ranks > 1 else None

    def save(result: Result) -> None:
        serving = contextlib.nullcontext() if result.rows is None else result.rows.serving()
        with serving:  # any other rank serves rank 0 until the picture is saved
            if mine:
                save_or_rescue(result, output, bits, pyramid)
        if not mine:
            return
        if not quiet:
            say(summary(result, output))
            pairs = result.effective.history_size
            if few_pairs(settings, pairs):
                say(
                    f"a picture this large has {pairs} curvature pairs; --history-size changes that"
                )
        if as_json:
            print(json.dumps(result.to_dict(output=str(output))))
        if plot is not None:  # last: what fails here costs nothing else
            result.plot(plot)

    def tell(message: str) -> None:
        if mine:
            complain(message)

    def together() -> None:
        current().barrier()  # a launcher ends all as soon as one ends with another code than 0

    with Interrupts(
        is_rank()
    ) as interrupts:  # around all: a finished picture is saved whatever comes
        result: Result | None = None
        told: list[tuple[str, str]] = []  # what ended the run, and where its picture is then
        code = 0
        try:
            with contextlib.ExitStack() as stack:
                every = [
                    stack.enter_context(ProgressBar(settings, show=mine and not quiet, late=late)),
                    *listeners(stack),
                    interrupts.after_step,  # once all is saved
                ]

                def listen(step: Step) -> None:
                    for listener in every:
                        listener(step)

                try:
                    result = work(listen)
                except Interrupted as ended:
                    result, code = ended.result, interrupts.exit_code
                    told.append(("interrupted", f"; the best picture so far is in {output}"))
                except Unsaved as ended:
                    result, code = ended.result, ended.exit_code
                    told.append((str(ended), f"; the best picture so far is in {output}"))
                except Diverged as ended:
                    if ended.result is None:
                        raise
                    result, code = ended.result, ended.exit_code
                    told.append((str(ended), f"; the best picture before that is in {output}"))
        except KeyboardInterrupt:
            tell("interrupted before there was a picture")
            raise typer.Exit(interrupts.exit_code) from None
        except OutputFailed as error:  # what listens to the steps cannot be closed: a film
            if result is None:
                raise
            code = code or error.exit_code
            if not any(str(error) in reason for reason, _ in told):
                told.append((str(error), ""))
        try:
            save(result)
        except FastNSTError:
            for reason, _ in told:  # the error says where the picture is instead
                tell(reason)
            raise
        for reason, where in told:
            tell(reason + where)
        together()
        if code:
            raise typer.Exit(code)
        interrupts.leave()


def few_pairs(settings: Settings, pairs: int | None) -> bool:
    """Whether a run has fewer curvature pairs than usual, because its picture is large.

    Args:
        settings: As they were asked for.
        pairs: Those that the run has.
    """
    chosen = settings.history_size is None and settings.optimizer != "adam"
    return chosen and pairs == HISTORY_SIZE_WHEN_LARGE


def summary(result: Result, output: Path) -> str:
    """One line about a finished run."""
    width, height = result.size
    where = result.device if result.provider is None else f"{result.device} ({result.provider})"
    return (
        f"{output}: {width}×{height}, {result.iterations} iterations in {result.seconds:.1f} s, "
        f"loss {result.losses.total:.4g}, engine {result.engine} on {where}"
        + ("" if result.strips == 1 else f", in {result.strips} strips")
    )
