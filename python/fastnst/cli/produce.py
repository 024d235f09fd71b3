"""What the commands that make one picture have in common: the bar, the file, the ways to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import typer
from rich.markup import escape

from fastnst.cli.console import complain, err
from fastnst.cli.progress import ProgressBar
from fastnst.errors import Interrupted, NonFiniteLoss
from fastnst.images import check_output
from fastnst.settings import Settings
from fastnst.stylize import Result, Step


def produce(
    work: Callable[[Callable[[Step], None]], Result],
    settings: Settings,
    output: Path,
    *,
    bits: int,
    quiet: bool,
    as_json: bool,
) -> None:
    """Make a picture and save it, with what there is of it if the work ends early.

    Args:
        work: Takes a callback for its steps and returns the result.
        settings: Of the run.
        output: Where to save the picture.
        bits: 8, or 16 for PNG and TIFF.
        quiet: Whether to print errors only.
        as_json: Whether to print the record of the run on stdout.
    """
    check_output(output, bits, needed=64 * 1024)

    def save(result: Result) -> None:
        result.save(output, bits)
        if as_json:
            print(json.dumps(result.to_dict(output=str(output))))
        if not quiet:
            err.print(summary(result, output))

    try:
        with ProgressBar(settings, show=not quiet) as show:
            result = work(show)
    except Interrupted as interrupt:
        save(interrupt.result)
        complain(f"interrupted; the best picture so far is in {output}")
        raise typer.Exit(interrupt.exit_code) from None
    except KeyboardInterrupt:
        complain("interrupted before there was a picture")
        raise typer.Exit(130) from None
    except NonFiniteLoss as error:
        if error.result is not None:
            save(error.result)
            complain(f"{error}; the best picture before that is in {output}")
            raise typer.Exit(error.exit_code) from None
        raise
    save(result)


def summary(result: Result, output: Path) -> str:
    """One line about a finished run."""
    height, width, _ = result.pixels.shape
    return escape(
        f"{output}: {width}×{height}, {result.iterations} iterations in {result.seconds:.1f} s, "
        f"loss {result.losses.total:.4g}, engine {result.engine} on {result.device}"
    )
