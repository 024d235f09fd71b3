"""Clips in: any file that PyAV reads, or a folder or glob of frames."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastnst.errors import InvalidInput
from fastnst.fingerprint import sha256_of_file
from fastnst.images.decode import load_image
from fastnst.images.formats import HEAD, READ, SUFFIXES, holds_picture, identify
from fastnst.images.pixels import Pixels
from fastnst.images.srgb import BT709, PRIMARIES, to_srgb
from fastnst.images.srgb import Colours as PictureColours
from fastnst.output.encoder import Colours, Sound, audible, load_av, open_media
from fastnst.video.flow import Frame
from fastnst.video.options import Selection

RATE = Fraction(25)  # frames a second, of frames in files
HIGH_DEFINITION = 720  # rows, from which colours that are not described are those of BT.709
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics of H.273
_MATRICES = {  # by their numbers in H.273: that of FFmpeg, and what a film of such a clip has
    1: (1, "bt709"),
    4: (4, "bt601"),
    5: (5, "bt601"),
    6: (5, "bt601"),
    7: (7, "bt709"),
    9: (9, "bt709"),
}
_NO_MATRIX = (0, 2, 3)  # of H.273: RGB, not said, reserved
_MATRIX_NAMES = {8: "YCgCo", 10: "BT.2020 with constant luminance", 14: "ICtCp"}
WHOLE = 0.95  # of the frames that a file says it has, from which it is not cut short
SURELY_WHOLE = 0.9  # likewise of the seconds that it says it lasts
_SAY_SECONDS = {"matroska", "flv"}  # whose files say them in front, and not how many frames
MOST_STRETCHED = 4  # a pixel's width over its height, or the other way round
MOST_PIXELS = 100_000_000  # of a frame that is decoded: thrice a frame of 8K film


class Clip(ABC):
    """A clip, looked at but not decoded.

    Attributes:
        name: What to call it in messages.
        rate: Frames a second, on average.
        frame_count: How many frames it has, as far as the file says; None: it does not.
        colours: How its colours are written down.
        loses_sound: Whether it has a sound track that cannot be read.
    """

    name: str
    rate: Fraction
    frame_count: int | None
    colours: Colours
    loses_sound: bool = False

    @abstractmethod
    def frames(self, selection: Selection) -> Iterator[Frame]:
        """The frames that are taken, in their order, decoded one by one.

        Raises:
            InvalidInput: for a frame that cannot be read, or of another size than the first.
        """

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of all that it is read from.

        Raises:
            InvalidInput: for a file that cannot be read.
        """

    @abstractmethod
    def sound(self, start: Fraction, end: Fraction | None) -> Sound | None:
        """Its sound between two times in seconds; None: it has none."""

    @abstractmethod
    def readable(self) -> int:
        """How many frames there are, as far as it can be read; found without decoding them.

        A few of a film's may show nothing, and are none once they are decoded.
        """

    def count(self, selection: Selection) -> int:
        """How many frames are taken, as ``readable`` counts them.

        Raises:
            InvalidInput: if none is.
        """
        frames = self.readable()
        count = selection.count(frames)
        if not count:
            raise InvalidInput(
                f"{self.name} has {frames} frames: there is none from --start {selection.start}"
            )
        return count


def open_clip(name: str, rate: Fraction | None = None) -> Clip:
    """Look at a clip.

    Args:
        name: A video file, a folder of pictures, or a glob of pictures.
        rate: Frames a second of frames in files; None: ``RATE``.

    Raises:
        InvalidInput: if it is no clip, or one that cannot be used.
        BackendUnavailable: without PyAV, for a video file.
    """
    if not name:
        raise InvalidInput("the clip's name is empty")
    path = Path(name)
    there = os.path.exists(name)  # noqa: PTH110 - False for what no system takes
    pictures: list[Path] | None = None
    try:
        if there and path.is_dir():
            pictures = _pictures_in(path)
        elif there:
            with path.open("rb") as file:
                head = file.read(HEAD)
        elif glob.has_magic(name):
            pictures = [p for p in map(Path, glob.glob(name)) if _is_frame(p)]  # noqa: PTH207
    except OSError as error:
        named = error.filename or name
        raise InvalidInput(f"clip {named} cannot be read: {error.strerror}") from error
    if pictures is not None:
        return PictureFrames(name, pictures, RATE if rate is None else rate)
    if not there:
        raise InvalidInput(f"clip {name} does not exist")
    if not head:
        raise InvalidInput(f"clip {name} is empty")
    if identify(head) in READ and identify(head) != "GIF":
        raise InvalidInput(f"clip {name} is a picture; use fastnst stylize, or name a folder")
    if rate is not None:
        raise InvalidInput(
            f"clip {name} has a frame rate of its own: --rate is for frames in files"
        )
    return VideoFile(path)


class PictureFrames(Clip):
    """Frames in picture files, in the order of the numbers in their names.

    Args:
        name: What they were named by.
        paths: The files.
        rate: Frames a second.
    """

    def __init__(self, name: str, paths: Sequence[Path], rate: Fraction) -> None:
        self.name = f"clip {name}"
        self.paths = sorted(paths, key=_natural)
        if not self.paths:
            raise InvalidInput(f"{self.name} has no pictures")
        self.rate = rate
        self.frame_count = len(self.paths)
        self.colours = Colours("bt709")

    def frames(self, selection: Selection) -> Iterator[Frame]:
        """As of ``Clip``."""
        shape: tuple[int, ...] | None = None
        count = len(self.paths)
        last = count if selection.end is None else min(count, selection.end)
        for index in range(selection.start, last, selection.every):
            pixels = load_image(self.paths[index])
            shape = _same(self.name, index, pixels.shape, shape)
            following = min(index + selection.every, last)
            until = following / self.rate
            yield Frame(index, index / self.rate, pixels, until, following == count)

    def readable(self) -> int:
        """As of ``Clip``."""
        return len(self.paths)

    def digest(self) -> str:
        """As of ``Clip``."""
        found = hashlib.sha256()
        for path in self.paths:
            found.update(os.fsencode(path.name) + f" {_digest(self.name, path)}\n".encode())
        return found.hexdigest()

    def sound(self, start: Fraction, end: Fraction | None) -> None:  # noqa: ARG002
        """As of ``Clip``: pictures are silent."""
        return


class VideoFile(Clip):
    """A video file.

    Args:
        path: Where it is.
        most_pixels: How many pixels a frame may have: it is not decoded if it has more.
        name: What to call it in messages; None: by its path.

    Attributes:
        width: Of an upright frame, in pixels, as the file says.
        height: Likewise.
        has_sound: Whether there is a sound track that can be read.

    Raises:
        InvalidInput: if it has no video, is damaged or HDR, its frames are too large, or its
            colours are written down in a way that is not read.
        BackendUnavailable: without PyAV.
    """

    width: int
    height: int

    def __init__(self, path: Path, most_pixels: int = MOST_PIXELS, name: str | None = None) -> None:
        self.name = name or f"clip {path}"
        self.path = path
        av = load_av()
        try:
            with open_media(path) as container:
                if not container.streams.video:
                    raise InvalidInput(f"{self.name} has no video stream")
                stream = container.streams.video[0]
                self._read_header(container, stream)
                if self.width * self.height > most_pixels:
                    raise InvalidInput(
                        f"{self.name} has frames of {self.width * self.height / 1e6:.3g} "
                        f"megapixels; {most_pixels / 1e6:g} are allowed"
                    )
                first = next(container.decode(stream), None)
        except (av.FFmpegError, OSError) as error:
            raise InvalidInput(
                f"{self.name} cannot be read as a video: {_reason(error)}"
            ) from error
        if first is None:
            raise InvalidInput(f"{self.name} has no frames")
        self._read_colours(first)
        if _turns(first) % 2:
            self.width, self.height = self.height, self.width

    def _read_header(self, container: Any, stream: Any) -> None:
        self.rate = stream.average_rate or stream.guessed_rate or RATE
        self.frame_count = stream.frames or None
        self.has_sound = audible(container) is not None
        self.loses_sound = bool(container.streams.audio) and not self.has_sound
        self._pixel_shape = _pixel_shape(stream)
        self.width, self.height = self._shown(stream.width), stream.height
        kinds = set(container.format.name.split(","))
        self._starts: Fraction = (stream.start_time or 0) * stream.time_base
        self._lasts: Fraction | None = None  # the pictures; in seconds, as all of these
        if (stream.duration or 0) > 0:
            self._lasts = stream.duration * stream.time_base
        self._knows_end = "mov" in kinds  # when the last picture is shown no more
        self._whole: float | None = None  # pictures and sound
        if _SAY_SECONDS & kinds and container.duration:
            self._whole = container.duration / load_av().time_base

    def _read_colours(self, first: Any) -> None:
        """How the clip's colours are written down, by its first frame.

        Raises:
            InvalidInput: if it is HDR, or has colours that are not read here.
        """
        transfer = _HDR.get(int(first.color_trc or 0))
        if transfer is not None:
            raise InvalidInput(
                f"{self.name} is HDR ({transfer}): its colours do not fit a painting's; convert it "
                "to SDR first"
            )
        number = int(first.colorspace or 0)
        usual = 1 if first.height >= HIGH_DEFINITION else 5
        known = _MATRICES.get(usual if number in _NO_MATRIX else number)
        if known is None:
            kind = _MATRIX_NAMES.get(number, f"matrix {number} of H.273")
            raise InvalidInput(
                f"{self.name} has its colours as {kind}, which is not read: convert it to BT.709 "
                "first"
            )
        self._matrix, matrix = known
        self._primaries: tuple[float, ...] | None = PRIMARIES.get(int(first.color_primaries or 0))
        if self._primaries == BT709:
            self._primaries = None
        elif self._primaries is not None:
            matrix = "bt709"  # whose primaries a film of it has
        self.colours = Colours(matrix, int(first.color_range or 0) == 2)

    def frames(self, selection: Selection) -> Iterator[Frame]:
        """As of ``Clip``: each is given when the next one's time is known."""
        shape: tuple[int, ...] | None = None
        held: Frame | None = None
        index, end, until = -1, Fraction(0), Fraction(0)  # when the last one is shown no more
        wrong: InvalidInput | None = None
        try:
            for index, time, at, decoded in self._decoded():
                if held is not None and (selection.takes(index) or selection.is_over(index)):
                    yield replace(held, until=at)
                    held = None
                if selection.is_over(index):
                    return
                stands = self._stands(decoded)
                end, until = time + stands, at + stands
                if selection.takes(index):
                    size = decoded.height, decoded.width
                    shape = _same(self.name, index, size, shape)
                    held = Frame(index, at, self._pixels(decoded))
        except load_av().FFmpegError as error:
            wrong = InvalidInput(
                f"{self.name} is damaged after frame {index}: {_reason(error)}; --end {index + 1} "
                "takes what can be read"
            )
        asked = selection.is_over(index + 1)  # for no more than there is
        if wrong is None and not asked:
            wrong = self._cut_short(index + 1, end)
        if wrong is None and self._knows_end and self._lasts is not None:
            until += max(Fraction(0), self._starts + self._lasts - end)
        if held is not None:
            yield replace(held, until=until, ends=wrong is None)
        if wrong is not None and not asked:
            raise wrong

    def _decoded(self) -> Iterator[tuple[int, Fraction, Fraction, Any]]:
        """All frames: the number of each, its time by its file, when it is shown, and itself.

        Raises:
            FFmpegError: for a file that is damaged.
        """
        clock = _Clock(1 / self.rate)
        with open_media(self.path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for index, decoded in enumerate(container.decode(stream)):
                time = self._time(decoded, index)
                yield index, time, clock.at(time), decoded

    def _stands(self, frame: Any) -> Fraction:
        """How long a frame is shown, in seconds, as far as it says so itself."""
        if not frame.duration or frame.time_base is None:
            return 1 / self.rate
        own: Fraction = frame.duration * frame.time_base
        return own

    def _cut_short(self, count: int, end: Fraction) -> InvalidInput | None:
        """The error of a file that has lost its end; None: it is whole, as far as it says.

        Args:
            count: How many frames were decoded.
            end: When the last of them is shown no more, in seconds.
        """
        found: str | None = None
        # Frames that its edit list leaves out are missing in the number of them, but not in time.
        fewer = count < WHOLE * (self.frame_count or 0)
        if fewer and (self._lasts and (end - self._starts) / self._lasts < WHOLE):
            found = f"it has {count} frames of {self.frame_count}"
        if self._whole is not None and end < SURELY_WHOLE * self._whole:
            reach = max(float(end), self._reach())  # sound may be longer than the pictures
            if reach < SURELY_WHOLE * self._whole:
                found = f"it has {reach:.3g} seconds of {self._whole:.3g}"
        if found is None:
            return None
        return InvalidInput(
            f"{self.name} is cut short: {found}; --end {count} takes what can be read"
        )

    def _reach(self) -> float:
        """When the last packet ends that can be read, of all pictures and sound, in seconds."""
        last = Fraction(0)
        with contextlib.suppress(load_av().FFmpegError), open_media(self.path) as container:
            for packet in container.demux():
                if packet.pts is not None:
                    ends = (packet.pts + (packet.duration or 0)) * packet.time_base
                    last = max(last, ends)
        return float(last)

    def counted(self) -> int:
        """How many frames are in the file, found by going through it without decoding them.

        Raises:
            InvalidInput: if it is damaged.
        """
        count, damage = self._packets
        if damage is not None:
            raise InvalidInput(f"{self.name} is damaged: {damage}")
        return count

    def readable(self) -> int:
        """As of ``Clip``."""
        return self._packets[0]

    @cached_property
    def _packets(self) -> tuple[int, str | None]:
        """How many packets become frames, and what is wrong after them; None: nothing is.

        Those that an edit list leaves out are decoded for others, and not shown.
        """
        count = 0
        try:
            with open_media(self.path) as container:
                for packet in container.demux(container.streams.video[0]):
                    count += bool(packet.size) and not packet.is_discard
        except (load_av().FFmpegError, OSError) as error:
            return count, _reason(error)
        return count, None

    def digest(self) -> str:
        """As of ``Clip``."""
        return _digest(self.name, self.path)

    def sound(self, start: Fraction, end: Fraction | None) -> Sound | None:
        """As of ``Clip``."""
        return Sound(self.path, start, end) if self.has_sound else None

    def _time(self, frame: Any, index: int) -> Fraction:
        if frame.pts is None or frame.time_base is None:
            return index / self.rate
        time: Fraction = frame.pts * frame.time_base
        return time

    def _shown(self, width: int) -> int:
        """The columns of square pixels that a frame of so many columns is shown with."""
        return max(1, round(width * self._pixel_shape))

    def _pixels(self, frame: Any) -> Pixels:
        """The frame upright, with the colours that its file means."""
        deep = frame.format.components[0].bits > 8
        clear = any(component.is_alpha for component in frame.format.components)
        pixel_format = (("rgb24", "rgba"), ("rgb48le", "rgba64le"))[deep][clear]
        rgb = frame.reformat(
            width=self._shown(frame.width), format=pixel_format, src_colorspace=self._matrix
        )
        levels = rgb.to_ndarray().astype(np.float32)
        white, opaque = _tops(frame) if deep else (255, 255)
        levels[..., :3] = (levels[..., :3] / white).clip(max=1)
        levels[..., 3:] /= opaque
        if clear:  # on white, as pictures are
            levels = levels[..., :3] * levels[..., 3:] + (1 - levels[..., 3:])
        if self._primaries is not None:
            levels = to_srgb(levels, PictureColours(primaries=self._primaries))
        return np.ascontiguousarray(np.rot90(levels, _turns(frame)))


def _turns(frame: Any) -> int:
    """How many quarters a frame is turned to the left to be upright, 0 to 3."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


class _Clock:
    """Times that rise: recordings that were put together begin again in the middle.

    Args:
        step: Seconds from a frame to one that is not later than it.
    """

    def __init__(self, step: Fraction) -> None:
        self._step, self._shift = step, Fraction(0)
        self._last: Fraction | None = None

    def at(self, time: Fraction) -> Fraction:
        """When a frame is shown, by the time that its file says."""
        shown = time + self._shift
        if self._last is not None and shown <= self._last:
            if self._last - shown < self._step:  # a time given twice; those that follow are right
                shown = self._last + self._step / 16
            else:  # another recording begins
                shown = self._last + self._step
                self._shift = shown - time
        self._last = shown
        return shown


def _pixel_shape(stream: Any) -> Fraction:
    """Width over height of a pixel; what no camera has is an error of the file, and means 1."""
    shape = Fraction(stream.sample_aspect_ratio or 1)
    return shape if 1 / MOST_STRETCHED <= shape <= MOST_STRETCHED else Fraction(1)


def _tops(frame: Any) -> tuple[int, int]:
    """What FFmpeg makes of white, and of opaque, where it makes 16 bits of more than 8.

    From RGB that is 65535. Other values are shifted: white of limited range, 235 of 255 in 8 bits,
    becomes 255 of them, and the largest one of full range, which grey is always taken for, stays.
    """
    if frame.format.is_rgb:
        return 65535, 65535
    largest = 65536 - (1 << max(0, 16 - int(frame.format.components[0].bits)))
    full = int(frame.color_range or 0) == 2 or frame.format.name.startswith(("gray", "ya"))
    return (largest if full else 255 << 8), largest


def _same(
    name: str, index: int, found: tuple[int, ...], shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The shape ``(H, W, …)`` of a frame, which must be that of those before.

    Raises:
        InvalidInput: if it is not.
    """
    if shape is not None and found != shape:
        had, has = (f"{s[1]}×{s[0]}" for s in (shape, found))
        raise InvalidInput(
            f"{name} changes its size at frame {index}, from {had} to {has}: --end {index} takes "
            "what is before, --start what follows"
        )
    return found


def _digest(name: str, path: Path) -> str:
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise InvalidInput(f"{name}: {path} cannot be read: {error.strerror}") from error


def _pictures_in(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if not p.name.startswith(".") and _is_frame(p)]


def _is_frame(path: Path) -> bool:
    """Whether a file is a picture by its name, so that a damaged one is said, or by its content."""
    return holds_picture(path) or (path.is_file() and path.suffix.lower() in SUFFIXES)


def _natural(path: Path) -> tuple[list[list[tuple[int, int, str]]], str]:
    """A key that sorts ``frame 9`` before ``frame 10``, folder by folder; all names differ."""
    found = [
        [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in re.findall(r"\d+|\D+", part)]
        for part in path.parts
    ]
    return found, str(path)


def _reason(error: Exception) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error)).split())
