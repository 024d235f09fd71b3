"""Clips in: frames, times, rotation, colours, sound; and what is wrong with them in one line."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastnst.errors import BackendUnavailable, FastNSTError, InvalidInput, OutputFailed
from fastnst.images import srgb
from fastnst.images.encode import save_image
from fastnst.output import encoder, video
from fastnst.output.encoder import Colours, Sound
from fastnst.video.clip import VideoFile, open_clip
from fastnst.video.options import Selection
from helpers.films import pan, write_clip

ALL = Selection()


def read(path: Path, selection: Selection = ALL) -> list:
    return list(open_clip(str(path)).frames(selection))


def test_frames_and_their_times_come_back(tmp_path: Path) -> None:
    pytest.importorskip("av")
    frames = pan(5)
    times = [0, Fraction(1, 25), Fraction(1, 5), Fraction(1, 4), 1]  # a variable frame rate
    clip = write_clip(tmp_path / "a.mp4", frames, times)
    got = read(clip)
    assert [frame.index for frame in got] == [0, 1, 2, 3, 4]
    assert [frame.time for frame in got] == times
    for frame, pixels in zip(got, frames, strict=True):
        assert frame.pixels.dtype == np.float32
        # H.264 at crf 18 with chroma at half the size; the next frame differs by three times that
        assert np.abs(frame.pixels - pixels).mean() < 0.03


def test_a_selection(tmp_path: Path) -> None:
    pytest.importorskip("av")
    clip = write_clip(tmp_path / "a.mp4", pan(9))
    assert [f.index for f in read(clip, Selection(2, 8, 3))] == [2, 5]
    assert open_clip(str(clip)).count(Selection(2, 8, 3)) == 2
    assert open_clip(str(clip)).count(Selection(2)) == 7
    with pytest.raises(InvalidInput, match="has 9 frames: there is none from --start 9"):
        open_clip(str(clip)).count(Selection(9))
    for wrong in ((-1, None, 1), (0, None, 0), (4, 4, 1)):
        with pytest.raises(InvalidInput, match="expected"):
            Selection(*wrong)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_colours_come_back(tmp_path: Path, matrix: str, full_range: bool) -> None:
    pytest.importorskip("av")
    green = np.tile(np.float32([0.1, 0.9, 0.2]), (32, 40, 1))
    colours = Colours(matrix, full_range)
    clip = open_clip(str(write_clip(tmp_path / "a.mp4", [green] * 2, colours=colours)))
    assert clip.colours == colours
    got = next(iter(clip.frames(ALL))).pixels
    # 8-bit luma and chroma; the wrong matrix is off by 0.1, the wrong range by 0.05
    assert np.abs(got - green).max() < 0.015


def rotate(path: Path, matrix: list[int]) -> None:
    """Write a rotation into the header of the track."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    values = [*matrix[:2], 0, *matrix[2:], 0, 0, 0, 16384]
    data[at : at + 36] = b"".join(
        int(v * 65536).to_bytes(4, "big", signed=True) if v != 16384 else (1 << 30).to_bytes(4)
        for v in values
    )
    path.write_bytes(data)


def test_a_rotated_clip_stands_upright(tmp_path: Path) -> None:
    pytest.importorskip("av")
    pixels = np.zeros((32, 40, 3), np.float32)
    pixels[:16] = 0.9  # bright above
    clip = write_clip(tmp_path / "a.mp4", [pixels] * 2)
    rotate(clip, [0, 1, -1, 0])  # a quarter to the right, as a telephone held upright writes it
    got = read(clip)[0].pixels
    assert got.shape == (40, 32, 3)
    assert (open_clip(str(clip)).width, open_clip(str(clip)).height) == (32, 40)
    assert got[:, 20:].mean() > 0.8  # bright at the right
    assert got[:, :12].mean() < 0.1


def test_frames_in_files(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    frames = pan(3)
    for number, pixels in zip((9, 10, 8), (frames[1], frames[2], frames[0]), strict=True):
        save_image(pixels, folder / f"frame {number}.png")
    (folder / "notes.txt").write_text("no picture")
    clip = open_clip(str(folder), Fraction(10))
    assert clip.frame_count == 3
    got = list(clip.frames(ALL))
    assert [f.time for f in got] == [0, Fraction(1, 10), Fraction(1, 5)]
    for frame, pixels in zip(got, frames, strict=True):  # 8 before 9 before 10
        assert np.abs(frame.pixels - pixels).max() <= 0.5 / 255 + 1e-6
    assert len(list(open_clip(str(folder / "frame 1*.png")).frames(ALL))) == 1
    assert clip.sound(Fraction(0), None) is None


def test_other_bytes_are_another_clip(tmp_path: Path) -> None:
    pytest.importorskip("av")
    one = open_clip(str(write_clip(tmp_path / "a.mp4", pan(2))))
    same = open_clip(str(write_clip(tmp_path / "b.mp4", pan(2))))
    other = open_clip(str(write_clip(tmp_path / "c.mp4", pan(2, seed=1))))
    assert one.digest() == same.digest() != other.digest()


def test_deep_colour_is_read_and_hdr_is_refused(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    for transfer in (1, 16, 18):
        path = tmp_path / f"{transfer}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 40, 32, "yuv420p10le"
            context = stream.codec_context
            context.color_trc, context.colorspace, context.color_range = transfer, 1, 1
            grey = np.full((32, 40, 3), 0x8123, np.uint16)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb48le")
            frame = frame.reformat(format="yuv420p10le", dst_colorspace="ITU709")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        if transfer == 1:
            assert abs(float(read(path)[0].pixels.mean()) - 0x8123 / 65535) < 0.003  # 10 bits
        else:
            with pytest.raises(InvalidInput, match=r"is HDR \((PQ|HLG)\).*SDR first"):
                open_clip(str(path))


def refusal(name: str | Path, selection: Selection = ALL) -> str:
    with pytest.raises(FastNSTError) as raised:
        list(open_clip(str(name)).frames(selection))
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_is_no_clip_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not exist" in refusal(tmp_path / "none.mp4")
    (tmp_path / "empty.mp4").touch()
    assert "is empty" in refusal(tmp_path / "empty.mp4")
    (tmp_path / "folder").mkdir()
    assert "has no pictures" in refusal(tmp_path / "folder")
    assert "has no pictures" in refusal(tmp_path / "none*.png")
    save_image(pan(1)[0], tmp_path / "a.png")
    assert "is a picture; use fastnst stylize" in refusal(tmp_path / "a.png")
    (tmp_path / "text.mp4").write_text("no video at all, but text\n" * 100)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BackendUnavailable, match="pip install av"):
        open_clip(str(tmp_path / "text.mp4"))


def test_damaged_clips_are_one_line(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    (tmp_path / "text.mp4").write_text("no video at all, but text\n" * 100)
    assert "cannot be read as a video" in refusal(tmp_path / "text.mp4")
    clip = write_clip(tmp_path / "a.mp4", pan(12))
    data = clip.read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    assert "cannot be read as a video" in refusal(tmp_path / "half.mp4")  # its index is at the end
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    assert "has no video stream" in refusal(tmp_path / "sound.mp4")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nreal.mp4\n#EXT-X-ENDLIST\n"),
        ("b.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nreal.mp4\n#EXT-X-ENDLIST\n"),
        ("c.mp4", "ffconcat version 1.0\nfile real.mp4\n"),
        (
            "d.mpd",
            "<MPD><Period><AdaptationSet><BaseURL>real.mp4</BaseURL></AdaptationSet></Period>",
        ),
        ("e.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"),
        ("f.nfo", "words that FFmpeg would draw\n" * 9),
        ("g.svg", '<svg xmlns="http://www.w3.org/2000/svg"><image href="real.png"/></svg>'),
        ("h.vpy", "import os\n"),
    ],
)
def test_nothing_but_the_file_itself_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "real.mp4", pan(2))
    Path(name).write_text(text)
    assert "cannot be read as a video" in refusal(Path(name))


@pytest.mark.parametrize(
    "name",
    [
        "http:a.mp4",
        "pipe:0",
        "concat:a|b.mp4",
        "a%d.mp4",
        "data:a",
        "subfile,,start,0,end,9,,:a.mp4",
    ],
)
def test_a_name_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pytest.importorskip("av")
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "a.mp4", pan(2))
    (tmp_path / "a.mp4").rename(name)
    assert len(list(open_clip(name).frames(Selection()))) == 2


def test_large_frames_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    pytest.importorskip("av")
    clip = write_clip(tmp_path / "a.mp4", pan(2, 32, 40))
    assert (VideoFile(clip).width, VideoFile(clip, 32 * 40).height) == (40, 32)
    with pytest.raises(InvalidInput, match=r"frames of 0.00128 megapixels; 0.001279 are allowed"):
        VideoFile(clip, 32 * 40 - 1)
    assert VideoFile(clip).counted() == 2


def test_a_clip_that_is_cut_short(tmp_path: Path) -> None:
    """The index is in front, so that only the frames at the end are missing."""
    av = pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    options = {"movflags": "faststart"}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "1", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 40, 32, "yuv420p"
        for pixels in pan(12):
            levels = (pixels * 255).round().astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(levels, format="rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data[: -(len(data) - data.index(b"mdat")) // 2])
    message = refusal(path)
    found = int(message.split("--end ")[1].split()[0])
    assert 0 < found < 12
    assert "takes what can be read" in message
    if int(av.__version__.split(".")[0]) > 17:  # 17 fails a frame or two before the last whole one
        assert len(read(path, Selection(end=found))) == found


def test_frames_that_change_their_size(tmp_path: Path) -> None:
    for k, pixels in enumerate([*pan(2), pan(1, 24, 30)[0]]):
        save_image(pixels, tmp_path / f"{k}.png")
    message = refusal(tmp_path)
    assert "changes its size at frame 2, from 40×32 to 30×24" in message
    assert len(read(tmp_path, Selection(end=2))) == 2


def test_sound_goes_along(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.mkv"
    cases = (
        ("aac", 16000, "aac"),
        ("pcm_s16le", 16000, "aac"),
        ("mp3", 16000, "mp3float"),
        ("mp3", 11025, "aac"),  # MP4 holds no slower MP3
        ("pcm_s16le", 192_000, "aac"),  # AAC has no such rates
        ("pcm_s16le", 4000, "aac"),
    )
    for codec, rate, expected in cases:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 40, 32, "yuv420p"
            track = container.add_stream(codec, rate=rate, layout="mono")
            for pixels in pan(25):
                levels = (pixels * 255).round().astype(np.uint8)
                frame = av.VideoFrame.from_ndarray(levels, format="rgb24")
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
            container.mux(stream.encode(None))
            tone = (np.sin(np.arange(rate) / 10) * 9000).astype(np.int16)[None]
            sound = av.AudioFrame.from_ndarray(tone, "s16", "mono")
            sound.sample_rate = rate
            fifo = av.AudioResampler(track.codec_context.format, "mono", rate, 1152)
            for part in (*fifo.resample(sound), *fifo.resample(None)):
                container.mux(track.encode(part))
            container.mux(track.encode(None))
        clip = open_clip(str(path))
        half = Fraction(1, 2)
        with video.encoding(
            tmp_path / "b.mp4", Fraction(25), clip.colours, clip.sound(half, Fraction(1))
        ) as encoder:
            for frame in clip.frames(Selection(12)):
                encoder.add(frame.pixels, frame.time - Fraction(12, 25))
        with av.open(str(tmp_path / "b.mp4")) as film:
            track = film.streams.audio[0]
            assert track.codec_context.name in (expected, expected.removesuffix("float"))
            heard = rate if rate == 16000 else track.codec_context.sample_rate
            seconds = sum(frame.samples for frame in film.decode(track)) / heard
        # packets of up to 1152 samples are whole
        assert abs(seconds - 0.5) < 0.15 + 1152 / rate, (
            codec,
            rate,
        )  # whole packets of up to 72 ms


def test_sound_may_change_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As television does between films: mono and stereo in one track."""
    av = pytest.importorskip("av")
    path, within = tmp_path / "a.mkv", encoder._within
    with av.open(str(path), "w") as container:
        track = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        tone = (np.sin(np.arange(32000) / 10) * 9000).astype(np.int16)[None]
        for at in range(0, 32000, 1000):
            sound = av.AudioFrame.from_ndarray(tone[:, at : at + 1000], "s16", "mono")
            sound.sample_rate, sound.pts, sound.time_base = 16000, at, Fraction(1, 16000)
            container.mux(track.encode(sound))
        container.mux(track.encode(None))

    def changing(parts, sound):
        for k, (at, frame) in enumerate(within(parts, sound)):
            if k % 8 < 4:
                yield at, frame
                continue
            for stereo in av.AudioResampler("fltp", "stereo", 16000).resample(frame):
                yield at, stereo

    monkeypatch.setattr(encoder, "_within", changing)
    with video.encoding(
        tmp_path / "b.mp4", Fraction(25), None, Sound(path, Fraction(0), None)
    ) as film:
        for k, pixels in enumerate(pan(50)):
            film.add(pixels, Fraction(k, 25))
    with av.open(str(tmp_path / "b.mp4")) as made:
        heard = [frame.to_ndarray() for frame in made.decode(audio=0)]
    # AAC begins with a frame of nothing and ends with a whole one, of 64 ms each
    assert abs(sum(one.shape[-1] for one in heard) / 16000 - 2) < 0.15
    loud = np.concatenate([np.abs(one).max(0) for one in heard])
    assert (loud[2000:30000].reshape(-1, 500).max(1) > 0.1).all()  # nothing is missing between


def test_sound_of_an_unknown_kind_is_left_out(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 40, 32, "yuv420p"
        track = container.add_stream("pcm_s16be", rate=44100, layout="mono")
        for pixels in pan(3):
            levels = (pixels * 255).round().astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(levels, format="rgb24")))
        container.mux(stream.encode(None))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), "s16", "mono")
        silence.sample_rate = 44100
        container.mux(track.encode(silence))
        container.mux(track.encode(None))
    assert not open_clip(str(path)).loses_sound
    path.write_bytes(path.read_bytes().replace(b"twos", b"apac"))
    clip = open_clip(str(path))
    assert clip.loses_sound
    assert clip.sound(Fraction(0), None) is None
    assert len(list(clip.frames(Selection()))) == 3


def test_a_film_that_cannot_be_begun_leaves_the_old_one(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("av")
    target = tmp_path / "a.mp4"
    target.write_bytes(b"....ftypisom, an old film")

    def fails(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("fastnst.output.encoder._Track", fails)
    with (
        pytest.raises(OutputFailed, match="Invalid argument"),
        video.encoding(target, Fraction(25), sound=Sound(tmp_path / "b.mp4")) as encoder,
    ):
        encoder.add(pan(1)[0])
    assert target.read_bytes() == b"....ftypisom, an old film"
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_names_that_are_no_text_and_other_digits(tmp_path: Path) -> None:
    for name in (b"5\xb20.png", "5²0.png".encode(), b"f\xfcr1.png"):
        Image.fromarray((pan(1)[0] * 255).astype(np.uint8)).save(tmp_path / "a.png")
        (tmp_path / "a.png").rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)))
    clip = open_clip(str(tmp_path))
    assert len(clip.digest()) == 64
    assert len(list(clip.frames(Selection()))) == 3


def test_what_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch) -> None:
    clip = write_clip(tmp_path / "a.mp4", pan(2)) if importlib.util.find_spec("av") else None
    folder = tmp_path / "frames"
    folder.mkdir()
    Image.fromarray((pan(1)[0] * 255).astype(np.uint8)).save(folder / "1.png")
    frames = open_clip(str(folder))

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    for name in (clip, folder):
        if name is not None:
            with pytest.raises(InvalidInput, match=rf"{name} cannot be read: Permission denied"):
                open_clip(str(name))
    with pytest.raises(InvalidInput, match=r"1\.png cannot be read: Permission denied"):
        frames.digest()


def test_a_frame_says_until_when_it_is_shown(tmp_path: Path) -> None:
    for k, pixels in enumerate(pan(6)):
        save_image(pixels, tmp_path / f"{k}.png")
    clip = open_clip(str(tmp_path))

    def shown(selection: Selection) -> list:
        found = [(f.time * 25, f.until * 25, f.ends) for f in clip.frames(selection) if f.until]
        return [(int(time), int(until), ends) for time, until, ends in found]

    assert shown(Selection(4)) == [(4, 5, False), (5, 6, True)]
    assert shown(Selection(0, 5, 3)) == [(0, 3, False), (3, 5, False)]
    assert shown(Selection(1, 9, 2)) == [(1, 3, False), (3, 5, False), (5, 6, True)]


def test_the_last_frame_stands_as_long_as_in_the_clip(tmp_path: Path) -> None:
    pytest.importorskip("av")
    images = [Image.fromarray((pixels * 255).astype(np.uint8)) for pixels in pan(4)]
    gif = tmp_path / "a.gif"
    images[0].save(gif, save_all=True, append_images=images[1:], duration=[100, 100, 100, 3000])
    last = read(gif)[-1]
    assert last.ends
    assert last.time == Fraction(3, 10)
    assert last.until == Fraction(33, 10)
    last = read(gif, Selection(0, 2))[-1]
    assert (last.index, last.until, last.ends) == (1, Fraction(2, 10), False)
    held = tmp_path / "held.mp4"
    with video.encoding(held, Fraction(25)) as encoder:  # frames between others are its last ones
        for k, pixels in enumerate(pan(8)):
            until = Fraction(k + 1, 25) if k < 7 else Fraction(5)
            encoder.add(pixels, Fraction(k, 25), until)
    last = read(held)[-1]
    assert (last.index, last.ends) == (7, True)
    # an MP4 file rounds its own length up to milliseconds
    assert abs(last.until - 5) <= Fraction(1, 1000)


def in_matroska(
    path: Path, frames: list, seconds: float = 0, kind: str = "matroska", codec: str = "mpeg4"
) -> Path:
    """A file that says in front how long it is, with so many seconds of sound."""
    import av

    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 40, 32, "yuv420p"
        track = container.add_stream("mp3", rate=16000, layout="mono") if seconds else None
        packets = []
        for pixels in frames:
            levels = (pixels * 255).round().astype(np.uint8)
            packets += stream.encode(av.VideoFrame.from_ndarray(levels, format="rgb24"))
        packets += stream.encode(None)
        if track is not None:
            for at in range(0, int(16000 * seconds), 576):
                sound = av.AudioFrame.from_ndarray(np.zeros((1, 576), np.int16), "s16p", "mono")
                sound.sample_rate, sound.pts, sound.time_base = 16000, at, Fraction(1, 16000)
                packets += track.encode(sound)
            packets += track.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


@pytest.mark.parametrize(("kind", "codec"), [("matroska", "mpeg4"), ("flv", "flv1")])
def test_a_file_that_says_how_long_it_is_and_is_cut_short(
    tmp_path: Path, kind: str, codec: str
) -> None:
    pytest.importorskip("av")
    clip = in_matroska(tmp_path / "a", pan(60), kind=kind, codec=codec)
    assert len(read(clip)) == 60
    assert len(read(clip, Selection(end=90))) == 60
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) // 2])
    message = refusal(clip)
    assert "is cut short: it has " in message
    assert message.split("--end ")[0].endswith(" seconds of 2.4; ")
    found = int(message.split("--end ")[1].split()[0])
    assert 10 < found < 50
    assert refusal(clip, Selection(end=60)) == message
    assert len(read(clip, Selection(end=found))) == found
    got: list[int] = []
    with contextlib.suppress(InvalidInput):
        for frame in open_clip(str(clip)).frames(ALL):
            got.append(frame.index)
    assert got == list(range(found))  # all that can be read is given first


def test_sound_that_is_longer_than_the_pictures_is_whole(tmp_path: Path) -> None:
    pytest.importorskip("av")
    clip = in_matroska(tmp_path / "a.mkv", pan(8), 2)
    last = read(clip)[-1]
    assert (last.index, last.ends) == (7, True)


def test_frames_are_counted_where_the_file_does_not_say_how_many(tmp_path: Path) -> None:
    pytest.importorskip("av")
    clip = open_clip(str(in_matroska(tmp_path / "a.mkv", pan(12))))
    assert clip.frame_count is None
    assert clip.count(Selection(2)) == 10
    assert clip.count(Selection(0, 5)) == 5


def in_colours(path: Path, matrix: int, primaries: int = 2, levels: tuple = (220, 40, 40)) -> Path:
    """Two frames of one colour whose code values are of this matrix of H.273."""
    import av

    red, blue = {1: (0.2126, 0.0722), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}.get(
        matrix, (0.299, 0.114)
    )
    r, g, b = (level / 255 for level in levels)
    luma = red * r + (1 - red - blue) * g + blue * b
    planes = (
        16 + 219 * luma,
        128 + 112 * (b - luma) / (1 - blue),
        128 + 112 * (r - luma) / (1 - red),
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 40, 32, "yuv444p"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_range = matrix, primaries, 1
        for _ in range(2):
            values = np.stack([np.full((32, 40), round(plane), np.uint8) for plane in planes])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(values, format="yuv444p")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("matrix", [1, 4, 5, 6, 7, 9])
def test_every_usual_matrix_is_read(tmp_path: Path, matrix: int) -> None:
    pytest.importorskip("av")
    clip = open_clip(str(in_colours(tmp_path / "a.mkv", matrix)))
    got = next(iter(clip.frames(ALL))).pixels
    # 8-bit code values; another matrix is off by 10 levels and more
    assert np.abs(got * 255 - (220, 40, 40)).max() < 3
    assert clip.colours.matrix == ("bt601" if matrix in (4, 5, 6) else "bt709")


def test_a_matrix_that_is_not_read_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("av")
    assert "its colours as YCgCo, which is not read" in refusal(in_colours(tmp_path / "a.mkv", 8))


@pytest.mark.parametrize("primaries", [9, 12])
def test_wide_primaries_become_those_of_a_screen(tmp_path: Path, primaries: int) -> None:
    """A colour that both have: less saturated in the wider ones' values."""
    pytest.importorskip("av")
    clip = open_clip(str(in_colours(tmp_path / "a.mkv", 1, primaries, (160, 120, 110))))
    got = next(iter(clip.frames(ALL))).pixels * 255
    values = np.full((1, 1, 3), np.array((160, 120, 110), np.float32) / 255)
    expected = srgb.to_srgb(values, srgb.Colours(primaries=srgb.PRIMARIES[primaries])) * 255
    assert expected[0, 0, 0] > 163  # it is more saturated
    assert np.abs(got - expected).max() < 3  # 8-bit code values
    assert clip.colours.matrix == "bt709"


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(
    ("kind", "bits"),
    [
        ("yuv420p10le", 10),
        ("yuv422p12le", 12),
        ("yuv444p16le", 16),
        ("yuva444p10le", 10),
        ("gray10le", 10),
        ("gray16le", 16),
        ("gbrp10le", 10),
    ],
)
def test_white_is_white_in_more_than_eight_bits(
    tmp_path: Path, kind: str, bits: int, full: bool
) -> None:
    """Columns in black, in grey and in white, of the code values that these have."""
    av = pytest.importorskip("av")
    path = tmp_path / "a.mkv"
    limited = kind.startswith("yuv") and not full
    largest = (1 << bits) - 1
    black, white = (16 << bits - 8, 235 << bits - 8) if limited else (0, largest)
    grey = (black + white) // 2
    frame = av.VideoFrame(48, 32, kind)
    for number, plane in enumerate(frame.planes):
        values = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        if kind.startswith("yuv") and number:
            values[:] = largest if number == 3 else 1 << bits - 1  # opaque, or no colour
        else:
            for k, value in enumerate((black, grey, white)):
                values[:, 16 * k : 16 * k + 16] = value
        plane.update(values.tobytes())
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, kind
        stream.codec_context.color_range = frame.color_range = 2 if full else 1
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    got = read(path)[0].pixels[16, 8::16]
    expected = [0, (grey - black) / (white - black), 1]
    # FFmpeg's rounding of 16 bits
    assert np.abs(got - np.float32(expected)[:, None]).max() < 1e-4
    assert got.max() <= 1
