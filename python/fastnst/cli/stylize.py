"""``fastnst stylize``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from fastnst.cli.options import settings_options
from fastnst.cli.produce import produce
from fastnst.errors import InvalidInput
from fastnst.images import FORMATS, save_image
from fastnst.settings import Settings
from fastnst.stylize import Step, run


@settings_options
def stylize(
    content: Annotated[str, typer.Argument(help="Content picture: a file, or sample:NAME.")],
    style: Annotated[
        list[str], typer.Argument(help="Style pictures: files, or sample:NAME; one or more.")
    ],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help=f"Where to save ({', '.join(FORMATS)}).")
    ],
    settings: Settings,
    content_mask: Annotated[
        str | None, typer.Option(help="Grey or coloured picture: which part gets which style.")
    ] = None,
    style_mask: Annotated[
        list[str] | None, typer.Option(help="Which part of a style counts; once for each STYLE.")
    ] = None,
    bits: Annotated[int, typer.Option(help="8, or 16 for PNG and TIFF.")] = 8,
    save_every: Annotated[
        int, typer.Option(help="Also save every N iterations, as OUTPUT-00050.png; 0: never.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the record of the run as JSON on stdout.")
    ] = False,
) -> None:
    """Give CONTENT the style of STYLE, or of several, blended."""
    if save_every < 0:
        raise InvalidInput(f"--save-every is {save_every}: expected 0 or more")
    produce(
        lambda show: run(
            content,
            style,
            settings,
            _callback(show, output, bits, save_every),
            content_mask=content_mask,
            style_masks=style_mask,
        ),
        settings,
        output,
        bits=bits,
        quiet=quiet,
        as_json=as_json,
    )


def _callback(
    show: Callable[[Step], None], output: Path, bits: int, save_every: int
) -> Callable[[Step], None]:
    def callback(step: Step) -> None:
        show(step)
        if save_every and step.iteration and step.iteration % save_every == 0:
            name = f"{output.stem}-{step.iteration:05d}{output.suffix}"
            save_image(step.pixels, output.with_name(name), bits)

    return callback
