"""``fastnst stylize``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from fastnst.cli.console import complain, err
from fastnst.cli.options import settings_options
from fastnst.cli.progress import ProgressBar
from fastnst.errors import Interrupted, InvalidInput, NonFiniteLoss
from fastnst.images import FORMATS, check_output, save_image
from fastnst.settings import Settings
from fastnst.stylize import Result, Step, run


@settings_options
def stylize(
    content: Annotated[str, typer.Argument(help="Content picture: a file, or sample:NAME.")],
    style: Annotated[str, typer.Argument(help="Style picture: a file, or sample:NAME.")],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help=f"Where to save ({', '.join(FORMATS)}).")
    ],
    settings: Settings,
    bits: Annotated[int, typer.Option(help="8, or 16 for PNG and TIFF.")] = 8,
    save_every: Annotated[
        int, typer.Option(help="Also save every N iterations, as OUTPUT-00050.png; 0: never.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the record of the run as JSON on stdout.")
    ] = False,
) -> None:
    """Give CONTENT the style of STYLE."""
    if save_every < 0:
        raise InvalidInput(f"--save-every is {save_every}: expected 0 or more")
    check_output(output, bits, needed=64 * 1024)

    def save(result: Result) -> None:
        result.save(output, bits)
        if as_json:
            print(json.dumps(result.to_dict(output=str(output))))
        if not quiet:
            err.print(_summary(result, output))

    try:
        with ProgressBar(settings, show=not quiet) as show:
            result = run(content, style, settings, _callback(show, output, bits, save_every))
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


def _callback(
    show: Callable[[Step], None], output: Path, bits: int, save_every: int
) -> Callable[[Step], None]:
    def callback(step: Step) -> None:
        show(step)
        if save_every and step.iteration and step.iteration % save_every == 0:
            name = f"{output.stem}-{step.iteration:05d}{output.suffix}"
            save_image(step.pixels, output.with_name(name), bits)

    return callback


def _summary(result: Result, output: Path) -> str:
    height, width, _ = result.pixels.shape
    return escape(
        f"{output}: {width}×{height}, {result.iterations} iterations in {result.seconds:.1f} s, "
        f"loss {result.losses.total:.4g}, engine {result.engine} on {result.device}"
    )
