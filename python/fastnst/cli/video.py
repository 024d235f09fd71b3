"""``fastnst video``."""

from __future__ import annotations

import contextlib
import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastnst.cli.console import complain, duration, say
from fastnst.cli.inputs import check_exists, check_pictures
from fastnst.cli.interrupts import Interrupts
from fastnst.cli.options import (
    MASKS,
    ON_THE_WAY,
    Json,
    Quiet,
    StyleMask,
    settings_options,
)
from fastnst.errors import FastNSTError, InvalidInput
from fastnst.files import check_outputs
from fastnst.settings.settings import Settings
from fastnst.strips.budget import amount
from fastnst.video.options import DIS, FilmOptions, Selection
from fastnst.video.output import check_output

if TYPE_CHECKING:
    from typing_extensions import Self

    from fastnst.run.step import Step
    from fastnst.ui.watch import Watch
    from fastnst.video.film import Film
    from fastnst.video.film_frame import FilmFrame
    from fastnst.video.tally import Tally

SLOWEST = 0.001  # frames a second
FRAMES = "Frames"
HELD = "From frame to frame"
_DEFAULTS = FilmOptions()


def _option(text: str, panel: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel)


@settings_options
def video(
    clip: Annotated[str, typer.Argument(help="A video file; a folder or a glob of frames.")],
    style: Annotated[list[str], typer.Argument(help="Pictures: files or sample:NAME.")],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Film to write (.mp4), or a folder for frames.")
    ],
    settings: Settings,
    start: Annotated[int, _option("The first frame, from 0.", FRAMES)] = 0,
    end: Annotated[
        int | None, _option("The frame to stop before. (default: the end)", FRAMES)
    ] = None,
    every: Annotated[int, _option("Take every N-th frame.", FRAMES)] = 1,
    rate: Annotated[
        float | None,
        _option("Frames a second of frames in files. (default: 25)", FRAMES),
    ] = None,
    backwards: Annotated[
        bool, _option("Begin with the last frame; docs/video.md.", FRAMES, "--backwards")
    ] = False,
    flow: Annotated[
        str, _option("dis, or a folder of .flo files, as 00012-00011.flo.", HELD)
    ] = DIS,
    temporal_weight: Annotated[
        float, _option("How much a frame is held to those before it.", HELD)
    ] = _DEFAULTS.temporal_weight,
    frame_iterations: Annotated[
        int, _option("Iterations of each frame but a shot's first, at most.", HELD)
    ] = _DEFAULTS.frame_iterations,
    band: Annotated[
        float, _option("A frame is done this near to its shot's first loss.", HELD)
    ] = _DEFAULTS.band,
    passes: Annotated[int, _option("Passes over the film, there and back.", HELD)] = 1,
    cuts: Annotated[
        bool, _option("Look for scene cuts, to start anew there.", HELD, "--cuts/--no-cuts")
    ] = True,
    content_mask: Annotated[
        str | None, _option("Which part of every frame gets which style.", MASKS)
    ] = None,
    style_mask: StyleMask = None,
    resume: Annotated[
        bool, _option("Go on with the frames of OUTPUT that are there.", ON_THE_WAY, "--resume")
    ] = False,
    preview: Annotated[
        bool, _option("Watch the frames form in the browser.", ON_THE_WAY, "--preview")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Give the frames of CLIP the style of STYLE, without flicker.

    Each frame starts from the one before it, warped along the optical flow, and is held to it. What
    is finished is on disk: Ctrl-C writes the film so far, --resume goes on.

    Example: fastnst video clip.mp4 painting.jpg -o out.mp4 --preset fast --size 512
    """
    options = FilmOptions(
        temporal_weight=temporal_weight,
        frame_iterations=frame_iterations,
        band=band,
        passes=passes,
        flow=flow,
        cuts=cuts,
    )
    selection = Selection(start, end, every)
    if rate is not None and not SLOWEST <= rate <= 1000:
        raise InvalidInput(f"--rate is {rate:g}: expected a number from {SLOWEST:g} to 1000")
    check_pictures(style, content_mask, style_mask)
    if not any(character in clip for character in "*?["):
        check_exists(clip, "clip")
    check_output(output)
    check_outputs({"--output": output}, {"the clip": clip, "the weights": settings.weights})

    from fastnst.video import film as films
    from fastnst.video.clip import open_clip
    from fastnst.video.flow import choose_flow
    from fastnst.video.painter import Painter
    from fastnst.video.tally import Tally

    frames_a_second = None if rate is None else Fraction(rate).limit_denominator(1001)
    source = open_clip(clip, frames_a_second)
    if source.loses_sound:
        complain(f"{source.name} has sound of an unknown kind: the film is silent")
    shown = _Shown(source.count(selection), passes, quiet)
    painter = Painter(
        *(style, settings, options, choose_flow(flow)),
        content_mask=content_mask,
        style_masks=style_mask,
        listen=shown.step,
    )
    film = films.Film(source, painter, output, selection, backwards)
    films.check(film, resume)
    made = Tally()
    with Interrupts() as interrupts, films.claimed(film), _previewed(preview, output, shown):
        shown.after = interrupts.after_step
        if resume:
            shown.go_on(*films.made_before(film))
        try:
            with shown:
                for painted in films.make(film, resume):
                    made.add(painted)
                    shown.frame(painted)
                    if as_json:
                        print(json.dumps(painted.to_dict()), flush=True)
                shown.end()
        except KeyboardInterrupt:
            _tell(film, _write(film), made, "interrupted")
            raise typer.Exit(interrupts.exit_code) from None
        except FastNSTError as error:
            if not made.frames:
                raise
            _tell(film, _write(film), made, str(error))
            raise typer.Exit(error.exit_code) from None
        _write(film)
        films.finish(film)
        if not quiet:
            say(_summary(film, made))
            _tell_left_over(film)
        interrupts.leave()


def _write(film: Film) -> Path | None:
    """Write what there is, and say if it has lost its sound on the way."""
    from fastnst.video import film as films

    audible = not film.clip.loses_sound
    written = films.write(film)
    if audible and film.clip.loses_sound:
        complain(f"{film.clip.name} has sound that is damaged: the film is silent")
    return written


class _Shown:
    """The bar: frames over all passes, seconds a frame, time left.

    Args:
        count: How many frames the film will have, about.
        passes: How many passes there are.
        quiet: Whether to show nothing.

    Attributes:
        after: Called after each step.
        watch: What shows the film in the browser; None: nothing does.
    """

    def __init__(self, count: int, passes: int, quiet: bool) -> None:
        from fastnst.cli.progress import make_bar

        self.bar = make_bar(not quiet)
        self.after: Any = lambda _: None
        self.watch: Watch | None = None
        self._count, self._passes = count, passes
        self._shots = 0
        self._finished, self._made = 0, 0  # frames over all passes; those of them from now on
        self._seconds = 0.0
        self.task = self.bar.add_task("preparing", total=self._total, rate="")

    @property
    def _total(self) -> int:
        """Frames over all passes: a further one leaves the first frame of a shot as it is."""
        return self._count + (self._passes - 1) * max(0, self._count - max(1, self._shots))

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def show_in(self, watch: Watch) -> None:
        """Show the frames in the browser too."""
        self.watch, watch.frames = watch, self._total

    def go_on(self, finished: int, shots: int) -> None:
        """Begin with so many frames finished, over all passes, of so many shots."""
        self._finished, self._shots = finished, shots
        self._update("", self._total)

    def step(self, index: int, step: Step) -> None:
        """Show a step of a frame."""
        self.bar.update(
            self.task,
            completed=self._finished + step.iteration / max(1, step.iterations),
            description=f"frame {index}  iteration {step.iteration}  loss {step.losses.total:.4g}",
        )
        if self.watch is not None:
            self.watch.hear(step)
        self.after(step)

    def frame(self, painted: FilmFrame) -> None:
        """Show that a frame is finished."""
        self._finished += 1
        self._made += 1
        self._shots += painted.begins
        self._seconds += painted.seconds
        if self.watch is not None:
            self.watch.finish_frame(painted.pixels, painted.seconds)
        self._update(f"{self._seconds / self._made:.1f} s a frame", self._total)

    def end(self) -> None:
        """Show that there are no more frames than are finished."""
        self._update("", self._finished)

    def _update(self, rate: str, total: int) -> None:
        self.bar.update(self.task, completed=self._finished, total=total, rate=rate)
        if self.watch is not None:
            self.watch.finished, self.watch.frames = self._finished, total


def _previewed(wanted: bool, output: Path, shown: _Shown) -> Any:
    if not wanted:
        return contextlib.nullcontext()
    from fastnst.cli.preview import preview

    @contextlib.contextmanager
    def watched() -> Any:
        with preview(output) as watch:
            shown.show_in(watch)
            yield

    return watched()


def _tell(film: Film, written: Path | None, made: Tally, reason: str) -> None:
    where = "and no film was written" if written is None else f"what there is is in {written}"
    goes_on = "; --resume goes on" if film.state.exists else ""
    complain(f"{reason}; {made.frames} frames were made, {where}{goes_on}")


def _tell_left_over(film: Film) -> None:
    """Say which finished frames are not in the film, and stay where they are."""
    from fastnst.video import film as films

    count = films.left_over(film)
    if count:
        them = "a frame" if count == 1 else f"{count} frames"
        say(
            f"{film.state.folder} keeps {them} from --end {film.selection.end} on: --resume with "
            "a later one goes on with them"
        )


def _summary(film: Film, made: Tally) -> str:
    if not made.frames:
        return f"{film.output}: there was nothing left to do"
    size = f", {amount(film.output.stat().st_size)}" if film.is_file else ""
    return (
        f"{film.output}: {made.width}×{made.height}, {made.frames} frames in "
        f"{duration(made.seconds)}, {made.rates}{size}"
    )
