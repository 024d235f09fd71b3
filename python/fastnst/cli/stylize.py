"""``fastnst stylize``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from fastnst import plots, video
from fastnst.checkpoint import Checkpoints
from fastnst.cli.console import complain, duration, err
from fastnst.cli.interrupts import interrupted_between_steps
from fastnst.cli.options import settings_options
from fastnst.cli.progress import ProgressBar
from fastnst.cli.ui import load_pages
from fastnst.errors import Interrupted, InvalidInput, NonFiniteLoss
from fastnst.estimate import Estimate, estimate
from fastnst.images import FORMATS, Pixels, check_output, save_image
from fastnst.settings import Settings
from fastnst.stylize import Result, Step, run
from fastnst.ui.jobs import Watch


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
    video_path: Annotated[
        Path | None, typer.Option("--video", help="Film the iterations: a name ending in .mp4.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the course of the losses (.png, .pdf, .svg).")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Keep the state of the run in this file, for --resume.")
    ] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Iterations between checkpoints.")] = 50,
    resume: Annotated[
        Path | None, typer.Option(help="Go on from this checkpoint, bit for bit.")
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Watch the picture form in the browser.")
    ] = False,
    only_estimate: Annotated[
        bool, typer.Option("--estimate", help="Say how much memory and time it takes, and stop.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the record of the run as JSON on stdout.")
    ] = False,
) -> None:
    """Give CONTENT the style of STYLE."""
    if save_every < 0:
        raise InvalidInput(f"--save-every is {save_every}: expected 0 or more")
    check_output(output, bits, needed=64 * 1024)
    _check_distinct(
        {"--output": output, "--video": video_path, "--plot": plot, "--checkpoint": checkpoint}
    )
    if plot is not None:
        plots.check(plot)
    checkpoints = None if checkpoint is None else Checkpoints(checkpoint, checkpoint_every)
    if only_estimate:
        _print_estimate(estimate(content, style, settings), as_json)
        return

    def save(result: Result) -> None:
        result.save(output, bits)
        if plot is not None:
            result.plot(plot)
        if as_json:
            print(json.dumps(result.to_dict(output=str(output))))
        if not quiet:
            err.print(_summary(result, output))

    try:
        with contextlib.ExitStack() as stack:
            listeners = [stack.enter_context(ProgressBar(settings, show=not quiet))]
            if preview:
                listeners.append(_open_preview())
            if save_every:
                listeners.append(_save_pictures(output, bits, save_every))
            if video_path is not None:
                add = stack.enter_context(video.film(video_path))
                listeners.append(_film(add, video.every(settings.iterations)))
            listeners.append(stack.enter_context(interrupted_between_steps()))  # once all is saved

            def listen(step: Step) -> None:
                for listener in listeners:
                    listener(step)

            result = run(content, style, settings, listen, checkpoints=checkpoints, resume=resume)
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


def _check_distinct(paths: Mapping[str, Path | None]) -> None:
    taken: dict[Path, str] = {}
    for option, path in paths.items():
        other = taken.setdefault(path.resolve(), option) if path is not None else option
        if other != option:
            raise InvalidInput(f"{other} and {option} are the same file, {path}")


def _open_preview() -> Callable[[Step], None]:
    pages = load_pages()
    watch = Watch()
    address = pages.serve(pages.preview_page(watch), "127.0.0.1", None, browser=True)
    err.print(escape(f"fastnst: {address}"))
    return watch.hear


def _save_pictures(output: Path, bits: int, save_every: int) -> Callable[[Step], None]:
    def listen(step: Step) -> None:
        if step.iteration and step.iteration % save_every == 0:
            name = f"{output.stem}-{step.iteration:05d}{output.suffix}"
            save_image(step.pixels, output.with_name(name), bits)

    return listen


def _film(add: Callable[[Pixels], None], every: int) -> Callable[[Step], None]:
    def listen(step: Step) -> None:
        if step.iteration % every == 0:
            add(step.pixels)

    return listen


def _print_estimate(needs: Estimate, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(needs)))
        return
    free = "" if needs.free_bytes is None else f" ({needs.free_bytes / 2**30:.1f} GiB are free)"
    print(
        f"{needs.width}×{needs.height}: about {duration(needs.seconds)} and "
        f"{needs.bytes / 2**30:.1f} GiB of memory{free}, engine {needs.engine} on {needs.device}"
    )


def _summary(result: Result, output: Path) -> str:
    height, width, _ = result.pixels.shape
    return escape(
        f"{output}: {width}×{height}, {result.iterations} iterations in {result.seconds:.1f} s, "
        f"loss {result.losses.total:.4g}, engine {result.engine} on {_where(result)}"
    )


def _where(result: Result) -> str:
    return result.device if result.provider is None else f"{result.device} ({result.provider})"
