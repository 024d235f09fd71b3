"""A film from end to end: the clip, its frames, their state on disk, the file at the end.

A film is made by ``make``, written by ``write`` and its state removed by ``finish``; whatever ends
``make`` early, ``write`` writes what there is, and ``make`` goes on with ``resume``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from fastnst import claims
from fastnst.devices import model
from fastnst.errors import InvalidInput, OutputFailed
from fastnst.images.decode import load_image
from fastnst.images.outputs import most_bytes
from fastnst.output import video
from fastnst.output.encoder import SUFFIX, Sound, load_av
from fastnst.run.identity import Identity
from fastnst.run.preparation import Preparation
from fastnst.video.backwards import from_the_last
from fastnst.video.clip import Clip, VideoFile
from fastnst.video.film_frame import FilmFrame, Past, Shot
from fastnst.video.flow import Frame, describe_flow
from fastnst.video.options import FilmOptions, Selection
from fastnst.video.output import check_output
from fastnst.video.painter import Painter
from fastnst.video.state import FilmState, shot_of, until_of
from fastnst.video.stylise import refine, stylise

STATE = 24  # bytes a pixel, of what later frames need of a frame


@dataclass
class Film:
    """A film that is to be made.

    Attributes:
        clip: The clip.
        painter: What paints the frames.
        output: A name ending in .mp4, or a folder for PNGs.
        selection: Which frames of the clip are taken.
        backwards: Whether to begin with the last frame of them.
        begun: Whether the frames on disk, if there are any, are known to be of this film.
    """

    clip: Clip
    painter: Painter
    output: Path
    selection: Selection
    backwards: bool = False
    begun: bool = field(default=False, init=False)

    @property
    def options(self) -> FilmOptions:
        """How the frames hang together."""
        return self.painter.options

    @property
    def is_file(self) -> bool:
        """Whether a film in one file is wanted, rather than a folder of frames."""
        return self.output.suffix.lower() == SUFFIX

    @property
    def state(self) -> FilmState:
        """Where the frames are kept until the film is whole."""
        folder = self.output.with_name(f"{self.output.name}.frames") if self.is_file else None
        kept = None if self.options.passes > 1 else max(self.options.distances)
        return FilmState(folder or self.output, kept, self.backwards)

    @property
    def place(self) -> Path:
        """A folder that is there, on the disk that the frames go to."""
        folder = self.state.folder
        there = os.path.isdir(folder)  # noqa: PTH112 - False for what no system takes
        return folder if there else folder.parent


def check(film: Film, resume: bool) -> None:
    """Make sure, before the work, that the film can be written and goes on where it should.

    Raises:
        InvalidInput: if not.
        BackendUnavailable: without PyAV, for a film in one file.
    """
    if film.is_file:
        video.check(film.output)
    check_output(film.output)
    folder = film.state.folder
    if film.state.has_frames and not resume:
        raise InvalidInput(
            f"{folder} has frames of a film: --resume goes on with it; remove it to begin again"
        )
    if resume and not film.state.exists:
        raise InvalidInput(f"there is no {folder} to go on from: leave out --resume")


def disk_needed(film: Film, width: int, height: int) -> int:
    """Bytes that a film of this size takes on disk at most while it is made."""
    count = film.clip.count(film.selection)
    kept = count if film.state.kept is None else min(count, film.state.kept + 1)
    pictures = count * most_bytes(width, height) * (2 if film.is_file else 1)
    return pictures + kept * STATE * width * height


@contextlib.contextmanager
def claimed(film: Film) -> Iterator[None]:
    """Claim a film while it is made, written and its state removed.

    Raises:
        InvalidInput: if another process has claimed it.
    """
    with claims.claim(film.state.folder) as mine:
        if not mine:
            raise InvalidInput(f"{film.output} is being made by another process")
        yield


def make(film: Film, resume: bool = False) -> Iterator[FilmFrame]:
    """Make the frames of a film, by the one process that has claimed it.

    Args:
        film: What to make; it has been checked.
        resume: Whether to go on with the frames that are there.

    Yields:
        Each frame that was made, when it is saved.

    Raises:
        InvalidInput: for a frame that cannot be read, too little disk, or frames of another film.
    """
    state = film.state
    frames = film.clip.frames(film.selection)
    first = next(frames, None)
    if first is None:
        raise InvalidInput(f"{film.clip.name} has no frames from --start {film.selection.start}")
    prepared = film.painter.prepare(first)
    if film.is_file:
        video.check_size(film.output, prepared.width, prepared.height)
    identity = _identity(film, prepared)
    if resume:
        state.check(identity)
    else:
        _check_disk(film, prepared, first)
        state.begin(identity)
    film.begun = True
    records = state.records()
    _check_end(film, records)
    done = {record["frame"] for record in records}
    shot = _shot(film, records) if records else None
    rest = _rest(film, _in_turn(film, chain([first], frames)), done, shot)
    following = _first_of(rest, None if resume else state)
    if following is not None:
        if any(record["pass"] > 1 for record in records):
            raise _other_end(film)
        past = _past(film, records) if records else []
        for painted in stylise(chain([following], rest), film.painter, past, shot):
            _check_engine(film, painted, records)
            state.save(painted)
            yield painted
    for number in range(2, film.options.passes + 1):
        for refined in _pass(film, number):
            painted = replace(refined, pass_number=number)
            _check_engine(film, painted, records)
            state.save(painted)
            yield painted


def made_before(film: Film) -> tuple[int, int]:
    """What there is of a film that is to go on, as far as it is selected.

    Returns:
        How many times a frame was finished, over all passes, and how many shots they have.

    Raises:
        InvalidInput: for a record that cannot be read.
    """
    inside, _ = _records(film)
    records = {record["frame"]: record for record in inside}
    count = len(records)
    for number in range(2, film.options.passes + 1):
        order = _order(film, records, number)
        count += sum(
            shot_of(records[before]) == shot_of(records[index]) and records[index]["pass"] >= number
            for before, index in pairwise(order)
        )
    return count, len({shot_of(record) for record in inside})


def left_over(film: Film) -> int:
    """How many finished frames lie beyond the selection, as of a film with a larger ``--end``."""
    _, outside = _records(film)
    return len(outside)


def _records(film: Film) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The records of the finished frames that are selected, and of those beyond them."""
    found = film.state.records() if film.state.exists else []
    beyond = [record for record in found if film.selection.is_over(record["frame"])]
    return found[: len(found) - len(beyond)], beyond


def write(film: Film) -> Path | None:
    """Write the film of the frames that are there.

    Returns:
        Where; None if there are none, or nobody has looked yet whether they are of this film.

    Raises:
        InvalidInput: for a frame that is damaged.
        OutputFailed: if it cannot be written; the frames are there still.
    """
    records = _records(film)[0] if film.begun else []
    if not records or not film.is_file:
        return film.output if records else None
    pictures = [film.state.picture(record) for record in records]  # all, or an old film stays
    times = [Fraction(record["exact_time"]) for record in records]
    last = records[-1]
    times.append(until_of(last) or times[-1] + film.selection.every / film.clip.rate)
    sound = film.clip.sound(times[0], None if last.get("ends_clip") else times[-1])
    try:
        _encode(film, pictures, times, sound)
    except OutputFailed as error:
        cause = error.__cause__
        damaged = isinstance(cause, load_av().FFmpegError) and not isinstance(cause, OSError)
        if sound is None or not damaged:  # a clip that is gone may be there again
            raise
        film.clip.loses_sound = True
        _encode(film, pictures, times, None)
    return film.output


def _encode(
    film: Film, pictures: Sequence[Path], times: Sequence[Fraction], sound: Sound | None
) -> None:
    """Write the film of these frames.

    Args:
        film: The film.
        pictures: The files of its frames.
        times: When each is shown, in seconds, and when the last one is shown no more.
        sound: Its sound; None: it is silent.

    Raises:
        OutputFailed: if it cannot be written, with the same cause.
    """
    rate = film.clip.rate / film.selection.every
    try:
        with video.encoding(film.output, rate, film.clip.colours, sound) as encoder:
            for picture, (time, until) in zip(pictures, pairwise(times), strict=True):
                encoder.add(load_image(picture), time - times[0], until - times[0])
    except OutputFailed as error:
        raise OutputFailed(
            f"{error}; its frames are in {film.state.folder}: --resume writes it once there is room"
        ) from error.__cause__


def finish(film: Film) -> None:
    """Remove the state of a film that is whole; the frames of a folder stay.

    All of it stays where it has frames beyond the selection. In a folder, what later frames need
    stays where there are some in the clip.
    """
    state = film.state
    inside, outside = _records(film)
    if film.is_file:
        if not outside:
            state.remove()
        return
    state.sweep()
    if outside or _can_go_on(film, inside):
        return
    for path in state.folder.glob("*.safetensors"):
        if path.stem.isdigit():
            path.unlink()


def _can_go_on(film: Film, records: Sequence[dict[str, Any]]) -> bool:
    """Whether more frames can be made after these with another ``--end``."""
    if not records or _end_decides(film):
        return False
    return not records[-1].get("ends_clip")


def _end_decides(film: Film) -> bool:
    """Whether ``--end`` decides what is made before what, so that another one is another film."""
    return film.backwards or film.options.passes > 1


def _in_turn(film: Film, frames: Iterable[Frame]) -> Iterable[Frame]:
    """The frames of the clip in the order in which they are painted.

    Backwards all of them are decoded first, into a file beside the film.
    """
    if not film.backwards:
        return frames
    return from_the_last(frames, film.place, film.clip.count(film.selection))


def _first_of(frames: Iterator[Frame], state: FilmState | None) -> Frame | None:
    """The first of the frames, before which a clip is decoded that goes backwards.

    Args:
        frames: The frames.
        state: What was begun just now and is removed if there is none; None: it stays.

    Raises:
        InvalidInput: for a clip that cannot be decoded.
    """
    try:
        return next(frames, None)
    except InvalidInput:
        if state is not None:
            state.remove()
        raise


def _rest(
    film: Film, frames: Iterable[Frame], done: AbstractSet[int], shot: Shot | None
) -> Iterator[Frame]:
    """The frames that are not done, in their order, which is that of painting.

    Args:
        film: The film.
        frames: All of them.
        done: The numbers of those that are.
        shot: That of the last of these, which goes on.

    Raises:
        InvalidInput: if one is missing before others that are done.
    """
    passed = 0
    for frame in frames:
        if shot is not None and frame.index == shot.first:
            film.painter.take_up(frame)
        if frame.index in done:
            passed += 1
            continue
        if passed < len(done):
            raise InvalidInput(
                f"{film.state.folder} lacks frame {frame.index} and has frames that were made "
                "after it: remove the records of these to make them again"
            )
        yield frame


def _in_order(film: Film, records: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Records in the order in which the frames are painted."""
    return records[::-1] if film.backwards else records


def _shot(film: Film, records: Sequence[dict[str, Any]]) -> Shot:
    """The shot of the frame that was painted last."""
    return shot_of(_in_order(film, records)[-1])


def _past(film: Film, records: Sequence[dict[str, Any]]) -> list[Past]:
    """The frames that the next one is held to: the last ones of one shot, in painting order."""
    shot = _shot(film, records)
    mine = [record for record in _in_order(film, records) if shot_of(record) == shot]
    return film.state.past(mine[-max(film.options.distances) :])


def _check_engine(film: Film, painted: FilmFrame, records: Sequence[dict[str, Any]]) -> None:
    """Make sure that a film goes on with the engine that it began with.

    Raises:
        InvalidInput: if another one has painted this frame.
    """
    engine = painted.result.engine
    if records and records[0].get("engine", engine) != engine:
        raise InvalidInput(
            f"{film.state.folder} was begun with engine {records[0]['engine']}, not {engine}: "
            "choose it with --engine"
        )


def _check_end(film: Film, records: Sequence[dict[str, Any]]) -> None:
    """Make sure that a film of several passes has no frames beyond the selection.

    Raises:
        InvalidInput: if it has some: a further pass would begin with another frame.
    """
    if film.options.passes > 1 and any(film.selection.is_over(one["frame"]) for one in records):
        raise _other_end(film)


def _other_end(film: Film) -> InvalidInput:
    return InvalidInput(
        f"{film.state.folder} is of another film: its further passes are over other frames, so go "
        "on with the --end that it had"
    )


def _pass(film: Film, number: int) -> Iterator[FilmFrame]:
    """Go over the frames of the passes before, in turn against and along the first direction."""
    records = {record["frame"]: record for record in film.state.records()}
    order = _order(film, records, number)
    done = {index for index, record in records.items() if record["pass"] >= number}

    def load(index: int) -> Past:
        return film.state.past([records[index]])[0]

    shots = {index: shot_of(record) for index, record in records.items()}
    return refine(load, shots, order, film.painter, done)


def _order(film: Film, frames: Iterable[int], number: int) -> list[int]:
    """The numbers of the frames in the order of a pass, whose number is 2 or more."""
    return sorted(frames, reverse=(number % 2 == 0) != film.backwards)


def _check_disk(film: Film, prepared: Preparation, first: Frame) -> None:
    """Make sure that there is room for a film, and for its clip where it goes backwards."""
    needed = disk_needed(film, prepared.width, prepared.height)
    if film.backwards:
        needed += film.clip.count(film.selection) * first.pixels.nbytes
    folder = film.place
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InvalidInput(
            f"the film needs up to {_bytes(needed)} in {folder} while it is made, and "
            f"{_bytes(free)} are free: take fewer frames (--start, --end, --every) or a "
            "smaller --size"
        )


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _identity(film: Film, prepared: Preparation) -> Identity:
    """What the film is made from; the content is the clip and not its first frame."""
    pictures = dict(prepared.sources.digests)
    pictures["content picture"] = film.clip.digest()
    selection = film.selection
    chosen = f"--start {selection.start} --every {selection.every}"
    if film.backwards:
        chosen += f" --end {selection.end}"
    if not isinstance(film.clip, VideoFile):  # whose rate is its own
        chosen += f" --rate {film.clip.rate}"
    options = {name: str(value) for name, value in film.options.to_dict().items()}
    options["flow"] = describe_flow(film.options.flow)
    return Identity.of(
        prepared.settings,
        pictures
        | options
        | {
            "file of weights": prepared.weights.sha256,
            "device": model(prepared.device),
            "frames": chosen + (" --backwards" if film.backwards else ""),
            "iterations": str(prepared.settings.iterations),
            "precision": prepared.settings.precision,
            "arithmetic": prepared.arithmetic(),
        },
    )
