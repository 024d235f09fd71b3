"""``fastnst texture`` and ``fastnst reconstruct``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Annotated

import typer

from fastnst.cli import naming
from fastnst.cli.inputs import check_pictures
from fastnst.cli.options import (
    Bits,
    Json,
    MaxMegapixels,
    Memory,
    Picture,
    Pyramid,
    Quiet,
    Scratch,
    StyleMask,
    read_resources,
    settings_options,
)
from fastnst.cli.outputs import check_run, numbered, result_size
from fastnst.cli.produce import produce
from fastnst.cli.ranks import (
    TIMEOUT,
    Join,
    Machines,
    Ranks,
    RankTimeout,
    as_rank,
    check_ranks,
    share_picture,
)
from fastnst.errors import InvalidInput
from fastnst.ranks.launch import read_plan, writes
from fastnst.settings.presets import DEFAULT_PRESET
from fastnst.settings.settings import NO_CONTENT, NO_STYLE, Settings, check_no_strength

FROM_NOISE = MappingProxyType({"init": "noise"})  # whatever the preset starts from


@partial(settings_options, default=DEFAULT_PRESET, unsaid=FROM_NOISE)
def texture(
    style: Annotated[
        list[str], typer.Argument(help="Pictures of a texture: files, or sample:NAME.")
    ],
    *,
    output: Picture = None,
    settings: Settings,
    aspect: Annotated[
        str | None,
        typer.Option(help="Width:height of the result, as 16:9. (default: STYLE's)"),
    ] = None,
    style_mask: StyleMask = None,
    bits: Bits = 8,
    pyramid: Pyramid = False,
    memory: Memory = None,
    scratch: Scratch = None,
    max_megapixels: MaxMegapixels = None,
    ranks: Ranks = None,
    machines: Machines = None,
    join: Join = None,
    rank_timeout: RankTimeout = TIMEOUT,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Paint a texture: the style of STYLE without a content.

    Example: fastnst texture painting.jpg -o texture.png --aspect 16:9
    """
    proportion = None if aspect is None else _proportion(aspect)
    resources = read_resources(memory, scratch, max_megapixels)
    check_no_strength(settings.strength, NO_CONTENT)
    settings = replace(settings, content_weight=0.0)
    plan = read_plan(ranks, machines, join, restarts=0)
    check_ranks(plan, rank_timeout, False, settings, *style)
    check_pictures(style, style_mask)
    target = naming.target(output, *style, "texture")
    if writes():
        check_run(
            {**numbered("style", style), **numbered("style mask", style_mask)},
            settings,
            {"--output": target},
            bits=bits,
            pyramid=pyramid,
            size=lambda: (
                result_size(style[0], settings.size, max_megapixels)
                if proportion is None or not settings.size
                else (settings.size, settings.size)
            ),
        )
    share_picture(
        plan,
        settings,
        # With --aspect it is of another shape than its style, and the ranks find out.
        lambda: None if aspect else result_size(style[0], settings.size, max_megapixels),
    )

    from fastnst.api import run_texture

    with as_rank(rank_timeout):
        produce(
            lambda show: run_texture(
                *(style, settings, show),
                aspect=proportion,
                style_masks=style_mask,
                resources=resources,
            ),
            settings,
            target,
            bits=bits,
            pyramid=pyramid,
            quiet=quiet,
            as_json=as_json,
        )


@partial(settings_options, default=DEFAULT_PRESET, unsaid=FROM_NOISE)
def reconstruct(
    content: Annotated[str, typer.Argument(help="A picture: a file, or sample:NAME.")],
    *,
    output: Picture = None,
    settings: Settings,
    bits: Bits = 8,
    pyramid: Pyramid = False,
    memory: Memory = None,
    scratch: Scratch = None,
    max_megapixels: MaxMegapixels = None,
    ranks: Ranks = None,
    machines: Machines = None,
    join: Join = None,
    rank_timeout: RankTimeout = TIMEOUT,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Show what --content-layers know of CONTENT, without a style.

    Example: fastnst reconstruct photo.jpg --content-layers relu5_1
    """
    resources = read_resources(memory, scratch, max_megapixels)
    check_no_strength(settings.strength, NO_STYLE)
    settings = replace(settings, style_weight=0.0)
    plan = read_plan(ranks, machines, join, restarts=0)
    check_ranks(plan, rank_timeout, False, settings, content)
    check_pictures(content)
    target = naming.target(output, content, "reconstruction")
    if writes():
        check_run(
            {"the content": content},
            settings,
            {"--output": target},
            bits=bits,
            pyramid=pyramid,
            size=lambda: result_size(content, settings.size, max_megapixels),
        )
    share_picture(plan, settings, lambda: result_size(content, settings.size, max_megapixels))

    from fastnst.api import run_reconstruction

    with as_rank(rank_timeout):
        produce(
            lambda show: run_reconstruction(content, settings, show, resources),
            settings,
            target,
            bits=bits,
            pyramid=pyramid,
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
