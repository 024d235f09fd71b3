"""A video of the picture as it forms (extra ``video``: PyAV, which brings its own FFmpeg)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from fastnst import files
from fastnst.errors import FastNSTError, InvalidInput, OutputFailed
from fastnst.output.encoder import SUFFIX, Colours, Encoder, Sound, load_av

if TYPE_CHECKING:
    from fastnst.images.pixels import Pixels

FRAMES_PER_SECOND = 30
FRAMES = 300  # of a run, about: ten seconds
SPACE = 16 << 20  # bytes that a film of a small picture may take
LEAST = 2  # pixels of a side
LAST = 2  # seconds that the last picture stands


def every(iterations: int) -> int:
    """How many iterations lie between two frames of a run's video."""
    return max(1, round(iterations / FRAMES))


def check(path: Path) -> None:
    """Make sure, before the work starts, that a video can be written.

    Raises:
        InvalidInput: for a name that does not end in .mp4, or a folder that cannot be written to.
        BackendUnavailable: without PyAV.
    """
    if path.suffix.lower() != SUFFIX:
        raise InvalidInput(f"video {path}: expected a name ending in {SUFFIX}")
    files.check_writable(path, "video", SPACE, lambda head: head[4:8] == b"ftyp", "MP4 file")
    load_av()


def check_size(path: Path, width: int, height: int) -> None:
    """Make sure, before the work starts, that a video can have frames of this size.

    Raises:
        InvalidInput: for a side that is one pixel long: sides are cut to even numbers.
    """
    if min(width, height) < LEAST:
        raise InvalidInput(
            f"video {path}: a film has {LEAST} pixels a side at least, and the result is "
            f"{width}×{height}"
        )


@contextlib.contextmanager
def film(path: str | os.PathLike[str]) -> Iterator[Callable[[Pixels], None]]:
    """Write pictures of one size to an MP4 file (H.264), which is put in place at the end.

    Args:
        path: Where, a name ending in .mp4.

    Yields:
        What to call with each frame, ``(H, W, 3)`` in [0, 1]. Sides are cut to even numbers, as the
        format needs them. However the block is left, the frames up to there are a whole film.

    Raises:
        InvalidInput: for another name, a folder that cannot be written to, or a frame with a side
            of one pixel.
        BackendUnavailable: without PyAV.
        OutputFailed: if the file cannot be written.
    """
    with encoding(Path(path), Fraction(FRAMES_PER_SECOND)) as encoder:
        count = 0

        def add(pixels: Pixels) -> None:
            nonlocal count
            check_size(Path(path), pixels.shape[1], pixels.shape[0])
            with _failures(Path(path)):
                encoder.add(pixels)
            count += 1

        try:
            yield add
        finally:
            if count:
                encoder.hold(LAST)


@contextlib.contextmanager
def encoding(
    target: Path,
    rate: Fraction,
    colours: Colours | None = None,
    sound: Sound | None = None,
) -> Iterator[Encoder]:
    """Write a film beside its place, which is put in place at the end, however that comes.

    Args:
        target: A name ending in .mp4.
        rate: Frames a second, where frames are given no times.
        colours: How colours are written down.
        sound: What is heard.

    Yields:
        What takes the frames. Without any there is no file.

    Raises:
        InvalidInput: for another name, or a folder that cannot be written to.
        BackendUnavailable: without PyAV.
        OutputFailed: if the file cannot be written.
    """
    check(target)
    with _failures(target), files.beside(target) as draft:
        encoder = Encoder(draft, rate, colours, sound)
        try:
            yield encoder
        finally:
            if encoder.finish():
                files.put_in_place(draft, target)


@contextlib.contextmanager
def _failures(target: Path) -> Iterator[None]:
    """Turns what the system and FFmpeg raise into ``OutputFailed``."""
    try:
        yield
    except (OSError, load_av().FFmpegError) as error:
        if isinstance(error, FastNSTError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise OutputFailed(f"video {target} could not be written: {reason}") from error
