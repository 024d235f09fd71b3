"""Films of visitors, without a browser."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.ui import film_wish
from fastnst.ui.film_wish import FilmWish
from fastnst.ui.limits import CLIP_FRAMES, Limits
from fastnst.ui.studio import Job, Studio
from fastnst.video.clip import VideoFile
from fastnst.video.options import FilmOptions, Selection
from helpers.films import pan, quick, settings, write_clip

__all__ = ["quick"]
av = pytest.importorskip("av")
pytest.importorskip("cv2")
pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def wish(tmp_path: Path, photo) -> FilmWish:
    clip = write_clip(tmp_path / "clip.mp4", pan(3))
    return FilmWish(
        str(clip),
        (str(photo("s.png", 36, 40, seed=1)),),
        settings(iterations=3),
        options=FilmOptions(frame_iterations=1),
    )


def running(job: Job, finished: int) -> Job:
    deadline = time.monotonic() + 60
    while job.finished < finished or job.frame() is None:
        assert time.monotonic() < deadline
        assert job.active, job.error
        time.sleep(0.01)
    return job


def longer(wish: FilmWish, frames: int = 12) -> FilmWish:
    """One of so many frames that it can be stopped in the middle."""
    assert wish.clip is not None
    clip = write_clip(Path(wish.clip).with_name("long.mp4"), pan(frames))
    options = FilmOptions(frame_iterations=20, band=0.0)
    return replace(wish, clip=str(clip), options=options)


def frames_in(path: Path) -> int:
    with av.open(str(path)) as film:
        return sum(1 for _ in film.decode(video=0))


def test_a_film_ends_with_all_there_is_to_show(studio: Studio, wish, finish) -> None:
    who = studio.admit(None)
    job = finish(studio.start(who, wish))
    assert job.state == "done", job.error
    found = job.outcome
    assert found is not None
    assert found.text.startswith("done: 40×32, 3 frames, ")
    assert found.text.endswith(" iterations a frame, 1 shot")
    assert found.row.count("<img") == 3
    assert found.pair is None
    assert found.film is not None
    assert found.film.name == "fastnst.mp4"
    assert found.size == found.film.stat().st_size
    assert frames_in(found.film) == 3
    assert studio.visitor(who).finished == [job]
    assert not job.folder.exists()  # nothing is left of the uploads


def test_a_stopped_film_has_what_was_finished_and_goes_on(studio, wish, finish) -> None:
    who = studio.admit(None)
    job = running(studio.start(who, longer(wish)), 1)
    assert job.frames == 12
    studio.stop(who)
    assert finish(job).state == "stopped", job.error
    count = job.finished
    assert 1 <= count < 12
    assert job.outcome.text.startswith(f"stopped: 40×32, {count} frame")
    assert " of 12, " in job.outcome.text
    assert frames_in(job.outcome.film) == count
    assert studio.resumable(studio.visitor(who))
    again = finish(studio.resume(who))
    assert again.state == "done", again.error
    assert again.outcome.text.startswith("done: 40×32, 12 frames, ")
    assert frames_in(again.outcome.film) == 12
    assert frames_in(job.outcome.film) == count  # which is its own file
    assert studio.visitor(who).finished == [job, again]


def test_a_film_that_is_stopped_before_its_first_frame(studio, wish, finish) -> None:
    who = studio.admit(None)
    long = replace(wish, settings=replace(wish.settings, iterations=100_000))
    job = running(studio.start(who, long), 0)
    studio.stop(who)
    assert finish(job).state == "stopped"
    assert job.outcome is None
    assert studio.resumable(studio.visitor(who))


def test_a_bad_frame_leaves_the_film_so_far(studio, wish, finish, monkeypatch) -> None:
    frames = VideoFile.frames

    def damaged(self, selection):
        for frame in frames(self, selection):
            if frame.index == 2:
                raise InvalidInput(f"{self.name} is damaged: --end 2 takes what can be read")
            yield frame

    monkeypatch.setattr(VideoFile, "frames", damaged)
    job = finish(studio.start(studio.admit(None), wish))
    assert job.state == "failed"
    assert job.error == "the clip is damaged: end 2 takes what can be read"
    assert job.outcome.text.startswith(f"{job.error}; failed: 40×32, 2 frames of 3")
    assert frames_in(job.outcome.film) == 2


def test_films_and_pictures_wait_in_one_line(studio, wish, finish) -> None:
    first, second = studio.admit(None), studio.admit(None)
    job = running(studio.start(first, longer(wish)), 1)
    waiting = studio.start(second, wish)
    assert studio.place(waiting) == (1, 1)
    studio.stop(first)
    assert finish(waiting).state == "done"
    assert finish(job).state == "stopped"


def test_the_files_of_films_that_are_forgotten_are_removed(
    studio, wish, finish, monkeypatch
) -> None:
    monkeypatch.setattr("fastnst.ui.studio.REMEMBERED", 1)
    who = studio.admit(None)
    first = finish(studio.start(who, wish))
    second = finish(studio.start(who, wish))
    assert not first.kept.exists()
    assert second.outcome.film.exists()
    monkeypatch.setattr("fastnst.ui.studio.KEPT_BYTES", 1)
    other = studio.admit(None)
    third = finish(studio.start(other, wish))
    assert not second.kept.exists()
    assert third.outcome.film.exists()  # the last one stays, however large it is


def test_what_is_no_clip_is_refused_before_it_waits(studio, wish, tmp_path, photo, empty) -> None:
    who = studio.admit(None)
    words = tmp_path / "words.mp4"
    words.write_text("words")
    wide = write_clip(tmp_path / "wide.mp4", pan(1, 240, 480))
    for clip, message in (
        (None, "choose a clip first"),
        ("", "choose a clip first"),
        (str(words), "the clip cannot be read as a video"),
        (str(empty), "the clip cannot be read as a video"),
        (str(tmp_path), "the clip cannot be read as a video"),
        (str(tmp_path / "missing.mp4"), "the clip cannot be read as a video"),
        (str(photo("a.png")), "the clip cannot be read as a video"),
        (str(wide), "the clip has frames of 0.115 megapixels; 0.1 are allowed"),
    ):
        with pytest.raises(InvalidInput, match=message) as refused:
            studio.start(who, replace(wish, clip=clip))
        assert str(tmp_path) not in str(refused.value)
    assert studio.visitor(who).job is None


def test_how_long_a_film_may_be(wish) -> None:
    limits = Limits(frames=2, iterations=50, size=64)
    for changed, message in (
        ({}, "the film has 3 frames: this page allows 2"),
        ({"selection": Selection(5)}, "the clip has 3 frames, none from 5 on"),
        (
            {"selection": Selection(1), "options": FilmOptions(frame_iterations=51)},
            "frame iterations is 51: this page allows 50",
        ),
        ({"selection": Selection(1), "styles": ()}, "choose a style picture first"),
    ):
        with pytest.raises(InvalidInput, match=message):
            replace(wish, **changed).check(limits)
    replace(wish, selection=Selection(1)).check(limits)
    replace(wish, selection=Selection(0, None, 2)).check(limits)
    with pytest.raises(InvalidInput, match=r"ends with frame \d+ of the clip"):
        Limits().check_film(Selection(0, None, 1_000), FilmOptions(), CLIP_FRAMES + 1)


@pytest.mark.parametrize("module", ["av", "cv2"])
def test_without_its_packages_there_are_no_films(wish, monkeypatch, module: str) -> None:
    assert film_wish.unavailable_reason() is None
    monkeypatch.setitem(__import__("sys").modules, module, None)
    reason = film_wish.unavailable_reason()
    assert reason == "films need PyAV and OpenCV: pip install av opencv-python-headless"
    with pytest.raises(BackendUnavailable, match="films need"):
        wish.check(Limits())


def test_frames_behind_the_last_one_that_is_taken_do_not_count() -> None:
    Limits().check_film(Selection(0, 5), FilmOptions(), CLIP_FRAMES + 1)
