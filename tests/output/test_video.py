"""Videos: every frame that was given, in order; whole however the run ends."""

from __future__ import annotations

import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.output import encoder, video


def frames(path: Path) -> list[np.ndarray]:
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def grey(level: float, height: int = 36, width: int = 48) -> np.ndarray:
    return np.full((height, width, 3), level, np.float32)


def test_a_side_of_one_pixel_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidInput, match="2 pixels a side at least"),
        video.film(tmp_path / "a.mp4") as add,
    ):
        add(np.zeros((1, 8, 3), np.float32))
    assert not list(tmp_path.iterdir())


def test_the_frames_come_out_as_they_went_in(tmp_path: Path) -> None:
    pytest.importorskip("av")
    levels = np.linspace(0.1, 0.9, 12)
    with video.film(tmp_path / "a.mp4") as add:
        for level in levels:
            add(grey(level))
    seen = frames(tmp_path / "a.mp4")
    assert len(seen) == 12 + video.LAST * video.FRAMES_PER_SECOND
    for frame, level in zip(seen, levels, strict=False):
        assert frame.shape == (36, 48, 3)
        # H.264 at crf 18, and 8-bit limited range: a few levels of 255
        assert np.abs(frame.astype(float) - 255 * level).max() < 6
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_odd_sides_lose_a_pixel(tmp_path: Path) -> None:
    pytest.importorskip("av")
    with video.film(tmp_path / "a.mp4") as add:
        add(grey(0.5, 37, 49))
    assert frames(tmp_path / "a.mp4")[0].shape == (36, 48, 3)


def test_an_interrupted_film_is_whole(tmp_path: Path) -> None:
    pytest.importorskip("av")

    def interrupted() -> None:
        with video.film(tmp_path / "a.mp4") as add:
            add(grey(0.2))
            add(grey(0.8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(frames(tmp_path / "a.mp4")) == 2 + video.LAST * video.FRAMES_PER_SECOND


def test_a_film_without_frames_is_none(tmp_path: Path) -> None:
    pytest.importorskip("av")
    with pytest.raises(ValueError, match="before the first"), video.film(tmp_path / "a.mp4"):
        raise ValueError("before the first")
    assert not list(tmp_path.iterdir())


def test_a_run_is_about_three_hundred_frames() -> None:
    assert [video.every(n) for n in (0, 1, 300, 600, 1000)] == [1, 1, 1, 2, 3]


def test_what_cannot_be_filmed_is_said_first(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(InvalidInput, match=r"video .*a\.gif: expected a name ending in \.mp4"):
        video.check(tmp_path / "a.gif")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BackendUnavailable, match="pip install av"):
        video.check(tmp_path / "a.mp4")


def test_a_film_replaces_nothing_but_films(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "a.mp4").write_text("somebody's words")
    with pytest.raises(InvalidInput, match=r"video .*a\.mp4 exists and is no MP4 file"):
        video.check(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes(b"....ftypisom")
    video.check(tmp_path / "a.mp4")


def test_sound_begins_and_ends_with_the_film() -> None:
    """In tenths of a second; a recording that was put together begins again in the middle."""

    def heard(times: list[int], start: int, end: int | None) -> list[int]:
        parts = [
            SimpleNamespace(pts=time, dts=time, duration=1, time_base=Fraction(1, 10))
            for time in times
        ]
        until = None if end is None else Fraction(end, 10)
        sound = encoder.Sound(Path("a.mp4"), Fraction(start, 10), until)
        return [round(at * 10) for at, _ in encoder._within(parts, sound)]

    assert heard([0, 1, 2, 3, 4], 1, 3) == [0, 1]  # what begins at the end is heard no more
    assert heard([0, 1, 2], 1, None) == [0, 1]
    assert heard([0, 1, 2, 0, 1], 0, None) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("rate", [25, 1])
@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_the_last_frame_stands_as_long_as_it_is_to(tmp_path: Path, count: int, rate: int) -> None:
    """Also where frames between others come after it in the file, and whatever the usual rate."""
    av = pytest.importorskip("av")
    target = tmp_path / "a.mp4"
    with video.encoding(target, Fraction(rate)) as encoder:
        for k in range(count):
            until = Fraction(k + 1, 25) if k + 1 < count else Fraction(3)
            encoder.add(grey(0.1 + 0.9 * k % 0.8), Fraction(k, 25), until)
    with av.open(str(target)) as film:
        stream = film.streams.video[0]
        times = [frame.pts * frame.time_base for frame in film.decode(stream)]
        assert times == [Fraction(k, 25) for k in range(count)]
        # an MP4 file rounds its own length up to milliseconds
        assert abs(stream.duration * stream.time_base - 3) <= Fraction(1, 1000)
        assert abs(film.duration / 1e6 - 3) <= 0.001


def test_a_frame_that_stands_long_makes_no_later_one_stand_longer(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    times = [0, Fraction(3), Fraction(31, 10), Fraction(32, 10), Fraction(33, 10)]
    with video.encoding(tmp_path / "a.mp4", Fraction(4, 3)) as encoder:
        for level, (at, until) in zip((0.2, 0.5, 0.3, 0.8), pairwise(times), strict=True):
            encoder.add(grey(level), Fraction(at), until)
    with av.open(str(tmp_path / "a.mp4")) as film:
        assert abs(film.duration / 1e6 - 3.3) <= 0.001  # rounded up to milliseconds
