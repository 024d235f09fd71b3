"""Clips as cameras, cutters and broken disks make them, and films that end early."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastnst import files
from fastnst.errors import InvalidInput, OutputFailed
from fastnst.images.encode import save_image
from fastnst.output import encoder, video
from fastnst.video import film as films
from fastnst.video.clip import open_clip
from fastnst.video.options import FilmOptions, Selection
from fastnst.video.painter import Painter
from helpers.films import brightening, make, pan, pan_flow, settings, texture, write_clip

av = pytest.importorskip("av")
pytestmark = pytest.mark.usefixtures("quick")
QUICK = FilmOptions(frame_iterations=1, cuts=False, distances=(1,))


def plan(clip, output, options=QUICK, rate=None):
    painter = Painter(texture(40, 36, seed=7), settings(iterations=2), options, pan_flow())
    return films.Film(open_clip(str(clip), rate), painter, output, Selection())


def times(path):
    with av.open(str(path)) as container:
        return [round(float(f.pts * f.time_base), 4) for f in container.decode(video=0)]


def stream(path, pts, **how):
    with av.open(str(path), "w", **how) as container:
        out = container.add_stream("mpeg2video", rate=25)
        out.width, out.height, out.pix_fmt = 40, 32, "yuv420p"
        for at, pixels in zip(pts, pan(len(pts)), strict=True):
            frame = av.VideoFrame.from_ndarray((pixels * 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = at, Fraction(1, 25)
            container.mux(out.encode(frame))
        container.mux(out.encode(None))
    return path


def stream_of_packets(path, pts):
    """A clip of pictures with a time each, whether these rise or not."""
    with av.open(str(path), "w") as container:
        out = container.add_stream("mjpeg", rate=25)
        out.width, out.height, out.pix_fmt = 40, 32, "yuvj420p"
        for pixels in pan(len(pts)):
            frame = av.VideoFrame.from_ndarray((pixels * 255).astype(np.uint8), format="rgb24")
            for packet in out.encode(frame):
                packet.pts = packet.dts = pts[0]
                packet.time_base = Fraction(1, 25)
                pts = pts[1:]
                container.mux(packet)
    return path


def test_recordings_that_were_put_together(tmp_path: Path) -> None:
    one = stream(tmp_path / "a.ts", range(4)).read_bytes()
    (tmp_path / "ab.ts").write_bytes(one * 2)
    make(plan(tmp_path / "ab.ts", tmp_path / "o.mp4"))
    assert times(tmp_path / "o.mp4") == [round(k / 25, 4) for k in range(8)]


def test_a_time_that_is_given_twice_moves_no_other_frame(tmp_path: Path) -> None:
    clip = stream_of_packets(tmp_path / "a.mkv", [0, 1, 2, 2, 4, 5])
    found = [frame.time * 25 for frame in open_clip(str(clip)).frames(Selection())]
    assert [round(t) for t in found] == [0, 1, 2, 2, 4, 5]
    assert all(a < b for a, b in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([0, 20, 40, 39, 60, 80], [0, 20, 40, 41, 60, 80]),  # one is out of order
        ([0, 20, 40, 0, 20, 40], [0, 20, 40, 60, 80, 100]),  # two recordings
    ],
)
def test_times_of_sound(given: list[int], expected: list[int]) -> None:
    packets = [SimpleNamespace(pts=t, dts=t, duration=20, time_base=1) for t in given]
    sound = SimpleNamespace(start=0, end=None)
    assert [at for at, _ in encoder._within(packets, sound)] == expected
    assert [packet.dts for packet in packets] == expected


def test_times_before_zero(tmp_path: Path) -> None:
    """FFmpeg has them of what was recorded just before the clock of MPEG-TS began anew."""
    clip = stream(tmp_path / "w.ts", range(-3, 3), options={"avoid_negative_ts": "disabled"})
    assert next(open_clip(str(clip)).frames(Selection())).time < 0
    make(plan(clip, tmp_path / "o.mp4"))
    assert len(times(tmp_path / "o.mp4")) == 6


def test_a_clip_that_was_trimmed_by_its_edit_list(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4", pan(8))
    trimmed = tmp_path / "trim.mp4"
    with av.open(str(whole)) as source, av.open(str(trimmed), "w") as target:
        track = source.streams.video[0]
        out = target.add_stream_from_template(track)
        for packet in source.demux(track):
            if packet.dts is not None:
                shift = int(Fraction(4, 25) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = out
                target.mux(packet)
    clip = open_clip(str(trimmed))
    assert len(list(clip.frames(Selection()))) == 4
    assert clip.counted() == clip.count(Selection()) == 4  # and eight are in the file


def test_another_rate_is_another_film(tmp_path: Path, frames: Path) -> None:
    make(plan(frames, tmp_path / "o.mp4", rate=Fraction(25)), count=3)
    with pytest.raises(InvalidInput, match="--rate 25 and is .*--rate 50"):
        make(plan(frames, tmp_path / "o.mp4", rate=Fraction(50)), resume=True)


def sounding(clip: Path, damaged: bool = False, samples: int = 15360) -> Path:
    """A clip of eight frames with AC-3 sound, of which a packet may be none."""
    with av.open(str(clip), "w") as container:
        out = container.add_stream("mpeg4", rate=25)
        out.width, out.height, out.pix_fmt = 40, 32, "yuv420p"
        track = container.add_stream("ac3", rate=48000, layout="stereo")
        packets, heard = [], []
        for k, pixels in enumerate(pan(8)):
            frame = av.VideoFrame.from_ndarray((pixels * 255).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            packets += out.encode(frame)
        packets += out.encode(None)
        for at in range(0, samples, 1536):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 3072), np.int16), "s16", "stereo")
            sound.sample_rate, sound.pts, sound.time_base = 48000, at, Fraction(1, 48000)
            heard += track.encode(sound)
        heard += track.encode(None)
        if damaged:
            bad = av.Packet(b"\xff" * 40)
            bad.pts, bad.dts, bad.time_base = heard[3].pts, heard[3].dts, heard[3].time_base
            bad.stream = track
            heard[3] = bad
        packets += heard
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return clip


def test_damaged_sound_does_not_cost_the_film(tmp_path: Path) -> None:
    clip = sounding(tmp_path / "a.mkv", damaged=True)
    film = plan(clip, tmp_path / "o.mp4")
    make(film)
    assert len(times(tmp_path / "o.mp4")) == 8
    assert film.clip.loses_sound


@pytest.mark.parametrize(("end", "heard"), [(None, 1.0), (8, 1.0), (3, 0.12)])
def test_sound_ends_with_the_clip_or_with_the_frames_that_are_taken(
    tmp_path: Path, end: int | None, heard: float
) -> None:
    """The clip has 0.32 seconds of pictures, and sound that goes on."""
    clip = sounding(tmp_path / "a.mkv", samples=48000)
    make(replace(plan(clip, tmp_path / "o.mp4"), selection=Selection(end=end)))
    with av.open(str(tmp_path / "o.mp4")) as container:
        packets = [p for p in container.demux(audio=0) if p.pts is not None]
        last = packets[-1]
        seconds = float((last.pts + last.duration) * last.time_base)
    assert heard <= seconds + 0.001 < heard + 0.033  # whole packets of 32 ms


def test_a_clip_that_is_gone_does_not_cost_its_sound(tmp_path: Path) -> None:
    clip = sounding(tmp_path / "a.mkv")
    film = plan(clip, tmp_path / "o.mp4")
    list(films.make(film))
    clip.rename(tmp_path / "b.mkv")
    with pytest.raises(OutputFailed, match="--resume writes it"):
        films.write(film)
    (tmp_path / "b.mkv").rename(clip)
    films.write(film)
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.streams.audio


def test_a_glob_names_the_file_that_cannot_be_read(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "1.png").touch()

    def refused(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(InvalidInput, match=r"clip .*1\.png cannot be read: Permission denied"):
        open_clip(str(tmp_path / "*.png"))


def test_a_rate_that_ffmpeg_has_no_fraction_for(tmp_path: Path) -> None:
    rate = Fraction(17983 * 90000, 53949037) / 97  # of a telephone, every so many-th frame
    with video.encoding(tmp_path / "o.mp4", rate) as encoder:
        for k, pixels in enumerate(pan(3)):
            encoder.add(pixels, k / rate)
    assert len(times(tmp_path / "o.mp4")) == 3


def test_pixels_that_are_no_squares(tmp_path: Path) -> None:
    clip = tmp_path / "dv.mp4"
    with av.open(str(clip), "w") as container:
        out = container.add_stream("mpeg4", rate=25)
        out.width, out.height, out.pix_fmt = 40, 32, "yuv420p"
        out.codec_context.sample_aspect_ratio = Fraction(16, 11)
        container.mux(out.encode(av.VideoFrame.from_ndarray(np.zeros((32, 40, 3), np.uint8))))
        container.mux(out.encode(None))
    assert next(open_clip(str(clip)).frames(Selection())).pixels.shape == (32, 58, 3)


def test_a_glob_over_folders_goes_folder_by_folder(tmp_path: Path) -> None:
    for name in ("b/0", "a/1", "b/1", "a/0"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_image(pan(1)[0], tmp_path / f"{name}.png")
    found = open_clip(str(tmp_path / "*" / "*.png")).paths
    assert [os.fspath(p.relative_to(tmp_path)) for p in found] == [
        "a/0.png", "a/1.png", "b/0.png", "b/1.png",
    ]  # fmt: skip


def test_a_glob_takes_pictures_alone(tmp_path: Path) -> None:
    save_image(pan(1)[0], tmp_path / "0.png")
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "folder").mkdir()
    assert [p.name for p in open_clip(str(tmp_path / "*")).paths] == ["0.png"]


@pytest.mark.parametrize("name", ["*.png", "."])
def test_a_damaged_frame_is_not_left_out(tmp_path: Path, name: str) -> None:
    """All frames after it would come too early."""
    for k, pixels in enumerate(pan(3)):
        save_image(pixels, tmp_path / f"{k}.png")
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(InvalidInput, match=r"1\.png is empty"):
        list(open_clip(str(tmp_path / name)).frames(Selection()))


@pytest.mark.parametrize(
    ("kind", "codec", "pixels"), [("mov", "qtrle", "argb"), ("mkv", "ffv1", "gbrap16le")]
)
def test_what_is_clear_is_white(tmp_path: Path, kind: str, codec: str, pixels: str) -> None:
    clip = tmp_path / f"clear.{kind}"
    levels = np.zeros((32, 40, 4), np.uint8)
    levels[:16, :, 3] = 255  # black above, black that is not to be seen below
    with av.open(str(clip), "w") as container:
        out = container.add_stream(codec, rate=25)
        out.width, out.height, out.pix_fmt = 40, 32, pixels
        container.mux(out.encode(av.VideoFrame.from_ndarray(levels, format="rgba")))
        container.mux(out.encode(None))
    found = next(open_clip(str(clip)).frames(Selection())).pixels
    assert found.shape == (32, 40, 3)
    assert found[:15].max() < 0.02
    assert found[17:].min() > 0.98


def test_pixels_that_no_camera_has_are_squares(tmp_path: Path) -> None:
    clip = tmp_path / "wide.mkv"
    with av.open(str(clip), "w") as container:
        out = container.add_stream("ffv1", rate=25)
        out.width, out.height, out.pix_fmt = 40, 32, "yuv420p"
        out.codec_context.sample_aspect_ratio = Fraction(200)
        container.mux(out.encode(av.VideoFrame.from_ndarray(np.zeros((32, 40, 3), np.uint8))))
        container.mux(out.encode(None))
    assert open_clip(str(clip)).width == 40


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    return brightening(tmp_path / "frames", 4, 0.6)


def test_frames_beyond_the_end_are_not_written(tmp_path: Path, frames: Path) -> None:
    make(plan(frames, tmp_path / "o.mp4"), count=4)
    film = replace(plan(frames, tmp_path / "o.mp4"), selection=Selection(end=2))
    make(film, resume=True)
    assert len(times(tmp_path / "o.mp4")) == 2
    assert films.left_over(film) == 2
    whole = plan(frames, tmp_path / "o.mp4")
    films.check(whole, resume=True)
    assert list(films.make(whole, resume=True)) == []  # they are there still
    films.write(whole)
    films.finish(whole)
    assert len(times(tmp_path / "o.mp4")) == 4
    assert films.left_over(whole) == 0
    assert not whole.state.folder.exists()


def test_a_film_is_made_by_one_process(tmp_path: Path, frames: Path) -> None:
    film = plan(frames, tmp_path / "o.mp4")
    refused = pytest.raises(InvalidInput, match="being made by another process")
    with films.claimed(film), refused, films.claimed(plan(frames, tmp_path / "o.mp4")):
        pass
    with films.claimed(film):
        pass


def test_an_engine_without_a_temporal_term_is_refused_at_once() -> None:
    fields = {"flow": pan_flow()}
    with pytest.raises(InvalidInput, match="engine onnx has no temporal term"):
        Painter("style.png", settings(engine="onnx"), QUICK, **fields)
    Painter("style.png", settings(engine="onnx"), replace(QUICK, temporal_weight=0.0), **fields)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_kill_within_a_second_pass(tmp_path: Path, frames: Path, monkeypatch, after: int) -> None:
    options = replace(QUICK, frame_iterations=2, band=0.0, temporal_weight=50.0, passes=2)
    make(plan(frames, tmp_path / "whole", options))
    make(plan(frames, tmp_path / "parts", options), count=5)  # one of them in the second pass
    write, count = files.write, itertools.count()

    def killed(path: Path, data: bytes) -> None:
        if next(count) == after:
            raise SystemExit
        write(path, data)

    monkeypatch.setattr(files, "write", killed)
    with pytest.raises(SystemExit):
        make(plan(frames, tmp_path / "parts", options), resume=True)
    monkeypatch.setattr(files, "write", write)
    make(plan(frames, tmp_path / "parts", options), resume=True)
    for path in (tmp_path / "whole").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_disk_that_is_full_within_a_second_pass(
    tmp_path: Path, frames: Path, monkeypatch, after: int
) -> None:
    """What there is is written, with the picture of the last pass where that is whole."""
    options = replace(QUICK, frame_iterations=2, band=0.0, temporal_weight=50.0, passes=2)
    film = plan(frames, tmp_path / "o.mp4", options)
    write, count = files.write, itertools.count()

    def full(path: Path, data: bytes) -> None:
        begun = path.suffix == ".next" or any(film.state.folder.glob("*.next"))
        if begun and next(count) == after:
            raise OutputFailed(f"{path}: No space left on device")
        write(path, data)

    monkeypatch.setattr(files, "write", full)
    with pytest.raises(OutputFailed, match="No space left"):
        list(films.make(film))
    films.write(film)
    assert len(times(tmp_path / "o.mp4")) == 4
