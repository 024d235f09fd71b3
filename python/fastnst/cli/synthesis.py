"""``fastnst texture`` and ``fastnst reconstruct``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fastnst.api import run_reconstruction, run_texture
from fastnst.cli.options import settings_options
from fastnst.cli.produce import produce
from fastnst.errors import InvalidInput
from fastnst.images.encode import FORMATS
from fastnst.settings.settings import Settings

Output = Annotated[
    Path, typer.Option("--output", "-o", help=f"Where to save ({', '.join(FORMATS)}).")
]
Bits = Annotated[int, typer.Option(help="8, or 16 for PNG and TIFF.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print the record of the run as JSON on stdout.")
]


@settings_options
def texture(
    style: Annotated[
        list[str], typer.Argument(help="Pictures of a texture: files, or sample:NAME.")
    ],
    *,
    output: Output,
    settings: Settings,
    aspect: Annotated[
        str | None, typer.Option(help="Width:height of the result, as 16:9. (default: STYLE's)")
    ] = None,
    style_mask: Annotated[
        list[str] | None, typer.Option(help="Which part of a style counts; once for each STYLE.")
    ] = None,
    bits: Bits = 8,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Paint a texture: the style of STYLE without a content."""
    proportion = None if aspect is None else _proportion(aspect)
    settings = replace(settings, content_weight=0.0)
    produce(
        lambda show: run_texture(style, settings, show, aspect=proportion, style_masks=style_mask),
        settings,
        output,
        bits=bits,
        quiet=quiet,
        as_json=as_json,
    )


@settings_options
def reconstruct(
    content: Annotated[str, typer.Argument(help="A picture: a file, or sample:NAME.")],
    *,
    output: Output,
    settings: Settings,
    bits: Bits = 8,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show what --content-layers know of CONTENT, without a style."""
    settings = replace(settings, style_weight=0.0)
    produce(
        lambda show: run_reconstruction(content, settings, show),
        settings,
        output,
        bits=bits,
        quiet=quiet,
        as_json=as_json,
    )


def _proportion(text: str) -> float:
    """``"16:9"`` or ``"1.78"`` as a number; raises InvalidInput naming the option."""
    width, _, height = text.partition(":")
    try:
        return float(width) / float(height or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise InvalidInput(f"--aspect is {text!r}: expected width:height, as 16:9") from error
