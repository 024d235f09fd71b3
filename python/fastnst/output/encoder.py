"""H.264 in an MP4 file: pictures in, with their times, colours and perhaps a sound track."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnst.errors import BackendUnavailable

if TYPE_CHECKING:
    from fastnst.images.pixels import Pixels

SUFFIX = ".mp4"
TICKS = 90_000  # a second, of the times in the file: exact for every usual frame rate
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000,
             7350)  # fmt: skip
USUAL_RATE = 48000  # of sound that is none of these
COPIED = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac", "mp2")  # sound that MP4 files hold
SLOWEST_MP3 = 16000  # samples a second of the MP3 that they hold: FFmpeg refuses slower ones


@dataclass(frozen=True)
class Colours:
    """How colours are written down in a film.

    Attributes:
        matrix: ``bt709`` or ``bt601``: from RGB to luma and chroma; None: not said in the file,
            and BT.601.
        full_range: Whether luma goes from 0 to 255; otherwise from 16 to 235.
    """

    matrix: str | None = None
    full_range: bool = False


@dataclass(frozen=True)
class Sound:
    """The sound track of a clip, or a part of it.

    Attributes:
        path: The clip.
        start: Where the film begins in it, in seconds.
        end: Where the film ends in it; None: with the clip.
    """

    path: Path
    start: Fraction = Fraction(0)
    end: Fraction | None = None


# What is read as a clip, by FFmpeg's names, whatever a file's own name ends in. Others name further
# files (playlists, lists of parts), run scripts or draw by themselves: they stay closed.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,"
    "asf,ogg,nut,mxf,gif,apng,dv,rm,yuv4mpegpipe,mjpeg"
)


class Encoder:
    """Writes a film.

    Args:
        path: The MP4 file.
        rate: Frames a second, where frames are given no times.
        colours: How colours are written down.
        sound: What is heard.
    """

    def __init__(
        self,
        path: Path,
        rate: Fraction,
        colours: Colours | None = None,
        sound: Sound | None = None,
    ) -> None:
        self.path = path
        self.rate = rate
        self.colours = colours or Colours()
        self.sound = sound
        self._sink: _Sink | None = None
        self._container: Any = None
        self._stream: Any = None
        self._track: _Track | None = None
        self._last: tuple[Any, Fraction] | None = None  # the last frame, and when it is shown
        self._ends: dict[int, int] = {}  # when frames are shown no more, by when they are, in ticks
        self._begun = False  # whether a frame was encoded

    def add(
        self, pixels: Pixels, at: Fraction | None = None, until: Fraction | None = None
    ) -> None:
        """Add a frame.

        Args:
            pixels: ``(H, W, 3)`` in [0, 1]. Sides are cut to even numbers, as the format needs.
            at: When it is shown, in seconds from the beginning of the film, later than the frame
                before; None: when the frame before has been shown for 1 / rate.
            until: When it is shown no more; None: after 1 / rate.
        """
        height, width = (side - side % 2 for side in pixels.shape[:2])
        if self._container is None:
            self._open(width, height)
        if at is None:
            at = Fraction(0) if self._last is None else self._last[1] + 1 / self.rate
        levels = (pixels[:height, :width] * 255).round().astype("uint8", order="C")
        self._last = levels, at
        if until is not None:
            self._ends[round(at * TICKS)] = round(until * TICKS)
        self._encode(levels, at)

    def hold(self, seconds: int) -> None:
        """Let the last frame stand for a while."""
        assert self._last is not None
        levels, at = self._last
        for k in range(1, round(seconds * self.rate) + 1):
            self._encode(levels, at + k / self.rate)

    def finish(self) -> bool:
        """Close the file; False if there were no frames, and so there is no film.

        Raises:
            OSError: if some of it could not be written.
        """
        if self._container is None or self._sink is None:
            return False
        if not self._begun:  # it could not even be opened: nothing is put in place of an old film
            self._sink.close()
            return False
        packets = self._stream.encode(None)  # what the encoder still holds
        if packets and self._ends:  # an MP4 file ends with its last frame, shown last or not
            self._ends[packets[-1].pts] = max(self._ends.values())
        self._mux(packets)
        if self._track is not None:
            self._track.copy_until(None)
            self._track.close()
        self._container.close()
        self._sink.close()
        self._sink.check()
        return True

    def _mux(self, packets: Sequence[Any]) -> None:
        """Put encoded frames into the file, with the times for which they are shown."""
        for packet in packets:
            end = self._ends.pop(packet.pts, None)
            if end is not None:
                packet.duration = max(1, end - packet.pts)
            self._container.mux(packet)

    def _open(self, width: int, height: int) -> None:
        av = load_av()
        self._sink = _Sink(self.path)
        self._container = av.open(self._sink, "w", format="mp4")
        stream = self._container.add_stream(
            "libx264", rate=_nominal(self.rate), options={"crf": "18"}
        )
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p"  # what every player shows
        stream.codec_context.time_base = Fraction(1, TICKS)
        if self.colours.matrix is not None:
            known = {"bt709": (1, 1, 1), "bt601": (6, 6, 6)}[self.colours.matrix]
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc = known
            context.color_range = 2 if self.colours.full_range else 1
        self._stream = stream
        if self.sound is not None:
            self._track = _Track(self._container, self.sound)

    def _encode(self, levels: Any, at: Fraction) -> None:
        if self._track is not None:
            self._track.copy_until(at)
        frame = load_av().VideoFrame.from_ndarray(levels, format="rgb24")
        if self.colours.matrix is not None:
            frame = frame.reformat(
                format="yuv420p",
                dst_colorspace={"bt709": "ITU709", "bt601": "ITU601"}[self.colours.matrix],
                dst_color_range="JPEG" if self.colours.full_range else "MPEG",
            )
        frame.pts, frame.time_base = round(at * TICKS), Fraction(1, TICKS)
        self._mux(self._stream.encode(frame))
        self._begun = True
        assert self._sink is not None
        self._sink.check()


def _nominal(rate: Fraction) -> Fraction:
    """A rate that FFmpeg's 32-bit fractions hold; the frames have times of their own."""
    return rate.limit_denominator(TICKS) or Fraction(1, TICKS)


class _Sink:
    """A file for FFmpeg, which crashes on what follows a write that failed.

    So it is told that all goes well, and what went wrong is raised by ``check``.

    Args:
        path: The file, which is made anew.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._error: OSError | None = None
        self._at = 0

    def write(self, data: bytes) -> int:
        """Write at the place at hand."""
        self._try(lambda: self._file.write(data))
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place, counted from the beginning (0), from here (1) or from the end (2)."""
        self._try(lambda: self._file.seek(offset, whence))
        self._at = self._file.tell() if self._error is None else offset
        return self._at

    def tell(self) -> int:
        """The place at hand."""
        return self._at

    def close(self) -> None:
        """Close the file."""
        self._try(self._file.close)

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self._error is not None:
            raise self._error

    def _try(self, act: Callable[[], object]) -> None:
        if self._error is None:
            try:
                act()
            except OSError as error:
                self._error = error
                with contextlib.suppress(OSError):  # what it still has in its buffer
                    self._file.close()


class _Track:
    """Copies the sound of a clip packet by packet, or as AAC where MP4 lacks its codec.

    Args:
        container: Where to.
        sound: Where from.
    """

    def __init__(self, container: Any, sound: Sound) -> None:
        self._container = container
        self._resampler: Any = None
        self._kind: tuple[str, str, int] | None = None  # of the samples that it takes
        self._source = open_media(sound.path)
        stream = audible(self._source)
        assert stream is not None  # or there would be no ``Sound``
        name, rate = stream.codec_context.codec.canonical_name, stream.codec_context.sample_rate
        self._copies = name in COPIED and (name != "mp3" or rate >= SLOWEST_MP3)
        if self._copies:
            self._out = container.add_stream_from_template(stream)
            self._packets = self._copied(stream, sound)
        else:
            self._out = container.add_stream("aac", rate=rate if rate in AAC_RATES else USUAL_RATE)
            self._packets = self._encoded(stream, sound)
        self._next = next(self._packets, None)

    def copy_until(self, at: Fraction | None) -> None:
        """Write what is heard up to a time, in seconds of the film; None: to the end."""
        while self._next is not None and (at is None or self._next[0] <= at):
            self._container.mux(self._next[1])
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Close the clip."""
        self._source.close()

    def _copied(self, stream: Any, sound: Sound) -> Iterator[tuple[Fraction, Any]]:
        for at, packet in _within(self._source.demux(stream), sound):
            shift = round(sound.start / packet.time_base)
            packet.pts -= shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - shift
            packet.stream = self._out
            yield at, packet

    def _encoded(self, stream: Any, sound: Sound) -> Iterator[tuple[Fraction, Any]]:
        for at, frame in _within(self._source.decode(stream), sound):
            frame.pts -= round(sound.start / frame.time_base)
            for alike in self._alike(frame):
                for packet in self._out.encode(alike):
                    yield at, packet
        for last in (*self._alike(None), None):
            for packet in self._out.encode(last):
                yield packet.pts * packet.time_base, packet

    def _alike(self, frame: Any) -> list[Any]:
        """Samples as the encoder takes them, whose kind a clip may change; None: the last ones."""
        found: list[Any] = []
        kind = None
        if frame is not None:
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind and self._resampler is not None:
            found += self._resampler.resample(None)
            self._resampler = None
        if frame is None:
            return found
        if self._resampler is None:
            to = self._out.codec_context
            self._kind = kind
            self._resampler = load_av().AudioResampler(to.format, to.layout, to.sample_rate)
        return [*found, *self._resampler.resample(frame)]


def _within(parts: Iterable[Any], sound: Sound) -> Iterator[tuple[Fraction, Any]]:
    """Packets or frames between the ends of a sound, each with its time from there."""
    shift, last, end = 0, None, 0  # recordings that were put together begin again in the middle
    for part in parts:
        if part.pts is None:
            continue
        begin = part.pts + shift
        if last is not None and begin < last:
            if last - begin <= (part.duration or 0):  # out of order; those that follow are right
                begin = last + 1
            else:
                shift, begin = end - part.pts, end
        if begin != part.pts:
            part.pts = part.dts = begin
        last, end = begin, begin + (part.duration or 0)
        at = part.pts * part.time_base
        if at < sound.start:
            continue
        if sound.end is not None and at >= sound.end:
            return
        yield at - sound.start, part


def open_media(path: Path) -> Any:
    """A clip, opened to be read: a PyAV container.

    Only the file itself is opened, by its content: nothing that it names, and no address.

    Raises:
        BackendUnavailable: without PyAV.
        OSError: if it is no clip, or cannot be read.
    """
    allowed = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    return load_av().open(f"file:{path}", options=allowed)


def audible(container: Any) -> Any:
    """The first sound track of a clip that can be read, a PyAV stream; None: there is none."""
    return next((s for s in container.streams.audio if s.codec_context is not None), None)


def load_av() -> Any:
    """PyAV.

    Raises:
        BackendUnavailable: without it.
    """
    try:
        import av
    except ImportError as error:
        raise BackendUnavailable("videos need PyAV; install it with: pip install av") from error
    return av
