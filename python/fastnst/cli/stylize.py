"""``fastnst stylize``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastnst.cli import naming
from fastnst.cli.console import duration
from fastnst.cli.inputs import check_file, check_pictures
from fastnst.cli.options import (
    MASKS,
    ON_THE_WAY,
    OUTPUT,
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
from fastnst.cli.outputs import check_run, numbered, picture_on_the_way, result_size
from fastnst.cli.produce import Listener, few_pairs, produce
from fastnst.cli.ranks import (
    TIMEOUT,
    Join,
    Machines,
    Ranks,
    RankTimeout,
    Restarts,
    as_rank,
    check_estimate,
    check_ranks,
    share_picture,
)
from fastnst.errors import InvalidInput, StateRefused
from fastnst.output import video
from fastnst.ranks.launch import may_restart, read_plan, writes
from fastnst.settings.settings import Settings
from fastnst.strips.budget import amount

if TYPE_CHECKING:
    from fastnst.estimate import Estimate
    from fastnst.images.pixels import Pixels
    from fastnst.run.result import Result
    from fastnst.run.step import Step
    from fastnst.ui.watch import Watch


@settings_options
def stylize(
    content: Annotated[str, typer.Argument(help="A file, or sample:NAME.")],
    style: Annotated[list[str], typer.Argument(help="One or more of these.")],
    *,
    output: Picture = None,
    settings: Settings,
    content_mask: Annotated[
        str | None,
        typer.Option(
            help="Grey or coloured picture: which part gets which style.", rich_help_panel=MASKS
        ),
    ] = None,
    style_mask: StyleMask = None,
    bits: Bits = 8,
    pyramid: Pyramid = False,
    save_every: Annotated[
        int,
        typer.Option(
            help="Also save every N iterations, as OUTPUT-00050.png; 0: never.",
            rich_help_panel=OUTPUT,
        ),
    ] = 0,
    video_path: Annotated[
        Path | None,
        typer.Option(
            "--video", help="Film the iterations: a name ending in .mp4.", rich_help_panel=OUTPUT
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw the course of the losses (.png, .pdf, .svg).", rich_help_panel=OUTPUT
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Keep the state of the run in this file, for --resume.",
            rich_help_panel=ON_THE_WAY,
        ),
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            help="Iterations between checkpoints. (default: 50)", rich_help_panel=ON_THE_WAY
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on from this checkpoint, bit for bit.", rich_help_panel=ON_THE_WAY),
    ] = None,
    memory: Memory = None,
    scratch: Scratch = None,
    max_megapixels: MaxMegapixels = None,
    ranks: Ranks = None,
    machines: Machines = None,
    join: Join = None,
    restarts: Restarts = 0,
    rank_timeout: RankTimeout = TIMEOUT,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview",
            help="Watch the picture form in the browser.",
            rich_help_panel=ON_THE_WAY,
        ),
    ] = False,
    only_estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            help="Say how much memory and time it takes, and stop.",
            rich_help_panel=ON_THE_WAY,
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Give CONTENT the style of STYLE, or of several, blended.

    Example: fastnst stylize photo.jpg painting.jpg -o out.png --size 512
    """
    if save_every < 0:
        raise InvalidInput(f"--save-every is {save_every}: expected 0 or more")
    resources = read_resources(memory, scratch, max_megapixels)
    plan = read_plan(ranks, machines, join, restarts)
    check_ranks(plan, rank_timeout, preview, settings, content, *style)
    if restarts and checkpoint is None:
        raise InvalidInput("--restarts needs a --checkpoint to go on from")
    check_pictures(content, style, content_mask, style_mask)
    if checkpoint_every is not None and checkpoint is None:
        raise InvalidInput("--checkpoint-every needs a --checkpoint to write")
    if checkpoint_every is not None and checkpoint_every < 1:
        raise InvalidInput(f"--checkpoint-every is {checkpoint_every}: expected 1 or more")
    if resume is not None:
        check_file(resume, "checkpoint")
    target = naming.target(output, content, *style)
    if writes():
        check_run(
            {
                "the content": content,
                **numbered("style", style),
                "the content mask": content_mask,
                **numbered("style mask", style_mask),
            },
            settings,
            {"--output": target, "--video": video_path, "--plot": plot, "--checkpoint": checkpoint},
            bits=bits,
            pyramid=pyramid,
            size=lambda: result_size(content, settings.size, max_megapixels),
            resume=resume,
            save_every=save_every,
        )
    if only_estimate:
        check_estimate(plan)
        from fastnst.estimate import estimate

        needs = estimate(content, style, settings, content_mask, style_mask, resources)
        _print_estimate(needs, settings, as_json)
        return
    share_picture(
        plan,
        settings,
        # A checkpoint says how its picture is cut, and the ranks find out.
        lambda: None if resume else result_size(content, settings.size, max_megapixels),
    )

    from fastnst.run.checkpoint import Checkpoints
    from fastnst.run.run import run

    checkpoints = None
    if checkpoint is not None:
        checkpoints = Checkpoints(checkpoint, checkpoint_every or Checkpoints.every)

    def listeners(stack: contextlib.ExitStack) -> list[Listener]:
        found: list[Listener] = []
        if watching is not None:
            found.append(watching.hear)
        if save_every:
            found.append(_save_pictures(target, bits, save_every, settings))
        if video_path is not None:
            found.append(_film(stack.enter_context(video.film(video_path)) if writes() else None))
        return found

    begin = partial(
        run,
        content,
        style,
        settings,
        content_mask=content_mask,
        style_masks=style_mask,
        checkpoints=checkpoints,
        resources=resources,
        by_band=plot is None and target.suffix.lower() in (".tif", ".tiff"),
    )

    def work(listen: Listener) -> Result:
        if checkpoint is not None and may_restart() and checkpoint.exists():
            try:
                return begin(listen, resume=checkpoint)
            except StateRefused:
                pass  # it is of another run, and written over
        return begin(listen, resume=resume)

    with as_rank(rank_timeout), _previewed(preview, target) as watching:
        produce(
            work,
            settings,
            target,
            bits=bits,
            pyramid=pyramid,
            quiet=quiet,
            as_json=as_json,
            plot=plot,
            listeners=listeners,
        )


def _previewed(wanted: bool, output: Path) -> contextlib.AbstractContextManager[Watch | None]:
    if not wanted:
        return contextlib.nullcontext()
    from fastnst.cli.preview import preview

    return preview(output)


def _save_pictures(
    output: Path, bits: int, save_every: int, settings: Settings
) -> Callable[[Step], None]:
    from fastnst.images.encode import save_image

    def listen(step: Step) -> None:
        if step.iteration and step.iteration % save_every == 0:
            pixels = step.pixels  # which all ranks make together
            if writes():
                path = picture_on_the_way(output, step.iteration)
                record = {**step.to_dict(), "output": str(path), "settings": settings.to_dict()}
                save_image(pixels, path, bits, {"fastnst": json.dumps(record)})

    return listen


def _film(add: Callable[[Pixels], None] | None) -> Callable[[Step], None]:
    """Adds the pictures on the way to a film; None: this rank has none."""
    from fastnst.images.pixels import resize

    def listen(step: Step) -> None:
        if step.iteration % video.every(step.iterations) == 0:  # of all scales
            pixels = step.pixels  # which all ranks make together
            if add is not None:
                add(resize(pixels, step.width, step.height))  # a film has one size

    return listen


def _print_estimate(needs: Estimate, settings: Settings, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(needs)))
        return
    free = "" if needs.free_bytes is None else f" ({amount(needs.free_bytes)} are free)"
    beside = f" and {amount(needs.main_bytes)} of main memory" if needs.main_bytes else ""
    cut = "" if needs.pieces == 1 else f", in {needs.pieces} strips"
    if few_pairs(settings, needs.pairs):
        cut += f", with {needs.pairs} curvature pairs"
    if needs.scratch_bytes:
        cut += f", with {amount(needs.scratch_bytes)} in the scratch folder"
    print(
        f"{needs.width}×{needs.height}: about {duration(needs.seconds)} and "
        f"{amount(needs.bytes)} of memory{free}{beside}, engine {needs.engine} "
        f"in {needs.precision} on {needs.device}{cut}"
    )
    if len(needs.scales) > 1:
        for scale in needs.scales:
            cut = "" if scale.pieces == 1 else f" in {scale.pieces} strips"
            print(
                f"  {scale.width}×{scale.height}{cut}: {scale.iterations} iterations, "
                f"about {duration(scale.seconds)}"
            )
