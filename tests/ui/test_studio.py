"""The visitors' runs, without a browser."""

from __future__ import annotations

import base64
import gc
import re
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fastnst.errors import InvalidInput, OutputFailed
from fastnst.output import video
from fastnst.run import checkpoint_writer
from fastnst.settings.presets import make_settings
from fastnst.ui.film_wish import FilmWish
from fastnst.ui.limits import Limits
from fastnst.ui.picture_wish import PictureWish
from fastnst.ui.studio import VISITORS, Job, Studio
from fastnst.ui.wish import Ended, explain
from fastnst.video.options import FilmOptions
from helpers.films import pan, quick, settings, write_clip
from helpers.pictures import huge_png

__all__ = ["quick"]


def long(wish: PictureWish) -> PictureWish:
    return replace(wish, settings=replace(wish.settings, iterations=50_000))


def running(job: Job) -> Job:
    deadline = time.monotonic() + 60
    while job.frame() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return job


def test_a_run_ends_with_all_there_is_to_show(studio, wish, finish) -> None:
    who = studio.admit(None)
    job = finish(studio.start(who, wish))
    assert job.state == "done"
    assert job.outcome is not None
    assert job.outcome.text.startswith("done: 48×36, 4 iterations")
    assert job.outcome.pair is not None
    before, after = job.outcome.pair
    assert before.startswith("data:image/webp;base64,")
    assert before != after
    assert studio.visitor(who).finished == [job]
    assert not job.folder.exists()  # nothing is left of the uploads


def test_a_stopped_run_goes_on_where_it_was(studio, wish, finish) -> None:
    who = studio.admit(None)
    job = running(studio.start(who, long(wish)))
    assert not studio.resumable(studio.visitor(who))
    studio.stop(who)
    assert finish(job).state == "stopped"
    assert studio.resumable(studio.visitor(who))
    again = running(studio.resume(who))
    first = again.frame()
    assert first is not None
    assert first.iteration >= len(job._history) - 2  # not from the start
    studio.stop(who)
    finish(again)
    assert len(studio.visitor(who).finished) == 2
    counts = [
        int(re.search(r"stopped: 48×36, (\d+) iterations", part.outcome.text)[1])
        for part in studio.visitor(who).finished
    ]
    assert counts[1] >= counts[0] > 0


def test_a_waiting_run_knows_its_place_and_stop_removes_it(studio, wish, finish) -> None:
    first, second, third = (studio.admit(None) for _ in range(3))
    running(studio.start(first, long(wish)))
    waiting, last = studio.start(second, wish), studio.start(third, wish)
    assert studio.place(waiting) == (1, 2)
    assert studio.place(last) == (2, 2)
    studio.stop(second)
    assert waiting.state == "removed"
    assert not waiting.folder.exists()
    assert studio.place(last) == (1, 1)
    studio.stop(first)
    assert finish(last).state == "done"
    assert waiting.state == "removed"


def test_one_run_of_a_visitor_at_a_time(studio, wish, finish) -> None:
    who = studio.admit(None)
    job = studio.start(who, long(wish))
    with pytest.raises(InvalidInput, match="a run of yours goes on; stop it first"):
        studio.start(who, wish)
    studio.stop(who)
    finish(job)


def test_stop_before_a_start_and_resume_without_a_run(studio) -> None:
    who = studio.admit(None)
    studio.stop(who)
    studio.stop("nobody")
    with pytest.raises(InvalidInput, match="there is no stopped run to resume"):
        studio.resume(who)


def test_a_token_that_was_not_given_is_nobody(studio, wish) -> None:
    who = studio.admit("guessed")
    assert who != "guessed"
    assert studio.admit(who) == who
    for token in ("guessed", None, 5, ["x"], "../../etc"):
        assert studio.visitor(token).job is None
        with pytest.raises(InvalidInput, match="load it again"):
            studio.start(token, wish)


def test_bad_pictures_are_refused_before_they_wait(studio, wish, tmp_path, empty, photo) -> None:
    who = studio.admit(None)
    huge_png(tmp_path / "huge.png", 1_000)
    script = tmp_path / "script.jpg"
    script.write_text("%!PS-Adobe-3.0\n{} loop\n")
    words = tmp_path / "words.png"
    words.write_text("words")
    for path, message in (
        (tmp_path / "huge.png", "has 1 megapixels; 0.1 are allowed"),
        (script, "the content picture"),
        (words, "the content picture"),
        (empty, "the content picture"),
        (tmp_path, "the content picture"),
        (tmp_path / "missing.png", "the content picture"),
    ):
        with pytest.raises(InvalidInput, match=message) as refused:
            studio.start(who, replace(wish, content=str(path)))
        assert str(tmp_path) not in str(refused.value)
    for changed, message in (
        ({"content": None}, "choose a content picture first"),
        ({"styles": ()}, "choose a style picture first"),
        ({"styles": wish.styles * 9}, "9 styles; 8 are allowed"),
        ({"styles": (str(words),)}, "the style picture"),
        ({"content_mask": str(words)}, "the content mask"),
        ({"style_masks": (str(empty),)}, "the style mask"),
    ):
        with pytest.raises(InvalidInput, match=message):
            studio.start(who, replace(wish, **changed))
    assert studio.visitor(who).job is None


def test_what_visitors_may_ask_for_is_limited(studio, wish, photo) -> None:
    who = studio.admit(None)
    wide = replace(wish, content=str(photo("wide.png", 200, 100)))
    for asked, changed, message in (
        (wish, {"size": 65}, "size is 65: this page allows 64"),
        (wide, {"size": 0}, "size is 200: this page allows 64"),
        (wish, {"style_size": 65}, "style_size is 65"),
        (wish, {"style_scale": (5.0,)}, "style_scale is 5: this page allows 4"),
        (wish, {"iterations": 100_001}, "iterations is 100001"),
        (
            wish,
            {"min_size": 6, "scale_iterations": (100_000,)},
            "iterations over all scales",
        ),
        (wish, {"style_blend": (1.0, 2.0)}, "style_blend has 2 values for 1 style picture"),
    ):
        with pytest.raises(InvalidInput, match=message):
            studio.start(who, replace(asked, settings=replace(wish.settings, **changed)))


def test_several_styles_and_masks(studio, wish, photo, finish) -> None:
    mask = str(photo("mask.png"))
    several = replace(
        wish,
        styles=wish.styles * 2,
        content_mask=mask,
        style_masks=(mask, mask),
        settings=replace(wish.settings, iterations=1),
    )
    who = studio.admit(None)
    job = finish(studio.start(who, several))
    assert job.state == "done" or "mask" in str(job.error), job.error
    assert str(job.folder) not in str(job.error)


def test_a_failed_run_names_no_path_of_the_server(studio, wish, finish) -> None:
    deep = replace(wish, settings=replace(wish.settings, size=8, style_layers=("relu5_1",)))
    job = finish(studio.start(studio.admit(None), deep))
    assert job.state == "failed"
    assert job.error is not None
    assert str(job.folder) not in job.error
    assert job.outcome is None


def test_visitors_who_have_left_free_the_line(studio, wish, finish) -> None:
    who = studio.admit(None)
    job = running(studio.start(who, long(wish)))
    studio.visitor(who).looked -= 10_000
    assert finish(job).state == "stopped"


def test_the_studio_ends_with_its_runs(small, wish, finish) -> None:
    from fastnst.ui.limits import Limits

    studio = Studio(Limits(iterations=100_000), small)
    first = running(studio.start(studio.admit(None), long(wish)))
    second = studio.start(studio.admit(None), wish)
    studio.close()
    assert finish(first).state == "stopped"
    assert second.state == "removed"
    assert isinstance(first.folder, Path)


LARGE = "Result", "Frame", "Objective"  # which have pictures in float32 and all targets


def large_objects() -> list[object]:
    gc.collect()
    return [found for found in gc.get_objects() if type(found).__name__ in LARGE]


def test_fifty_visitors_at_once(studio, wish, finish) -> None:
    """Each is told its place and gets its own picture; nothing of a run stays but its outcome."""
    of_other_tests = large_objects()
    blocker = running(studio.start(studio.admit(None), long(wish)))
    tokens = [studio.admit(None) for _ in range(50)]
    small = replace(wish.settings, size=24, iterations=1, style_layers=("relu1_1",))
    jobs = [
        studio.start(token, replace(wish, settings=replace(small, seed=seed)))
        for seed, token in enumerate(tokens)
    ]
    assert [studio.place(job) for job in jobs] == [(k, 50) for k in range(1, 51)]
    blocker.stop()
    for job in jobs:
        finish(job)
    assert [job.state for job in jobs] == ["done"] * 50
    links = [job.outcome.download for job in jobs if job.outcome is not None]
    pictures = [re.search('base64,([^"]+)"', link)[1] for link in links]
    assert len(set(pictures)) == 50  # each has its own seed
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    assert not any(job.folder.exists() for job in jobs)
    for token, job in zip(tokens, jobs, strict=True):
        assert studio.visitor(token).finished == [job]
    kept = [found for found in large_objects() if not any(found is old for old in of_other_tests)]
    # the thread may not have dropped the last one yet; each run's would be 50 of them
    assert len(kept) <= len(LARGE)


class _Asked:
    """A run of another kind: it leaves a state and is stopped, or goes on until it is let go."""

    kind, styles, settings, content_mask, style_masks = "picture", (), None, None, ()

    def __init__(self, go_on: threading.Event | None = None) -> None:
        self.go_on = go_on

    def check(self, limits: Limits) -> None:
        del limits

    def owned(self, folder: Path) -> _Asked:
        del folder
        return self

    def state(self, folder: Path) -> Path:
        return folder / "state"

    def run(self, stage) -> Ended:
        if self.go_on is not None:
            self.go_on.wait(60)
            return Ended("removed")
        self.state(stage.folder).write_text("so far")
        return Ended("stopped")


def test_a_resumed_run_that_waits_and_is_stopped_can_be_resumed_again(studio, finish) -> None:
    first, second = studio.admit(None), studio.admit(None)
    finish(studio.start(first, _Asked()))
    assert studio.resumable(studio.visitor(first))
    gate = threading.Event()
    other = studio.start(second, _Asked(gate))
    deadline = time.monotonic() + 60
    while other.state != "running" and time.monotonic() < deadline:
        time.sleep(0.01)
    waiting = studio.resume(first)
    studio.stop(first)
    assert waiting.state == "stopped"
    assert studio.resumable(studio.visitor(first))
    assert waiting.can_go_on
    gate.set()


def test_a_newcomer_is_let_in_however_many_wait(studio, tmp_path: Path) -> None:
    for number in range(VISITORS + 3):
        visitor = studio.visitor(studio.admit(None))
        visitor.job = Job(_Asked(), tmp_path / str(number))
    assert studio.visitor(studio.admit(None)).job is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"min_size": 32, "scale_step": 1.05, "scale_iterations": (1000,)},
            "iterations over all scales is",
        ),
        ({"style_size": 0}, "style_size is 5000: this page allows 1024"),
        ({"size": 0}, "size is 3000: this page allows 1024"),
    ],
)
def test_what_a_visitor_may_ask_for_is_what_will_be_done(changes, message: str) -> None:
    settings = make_settings("fast", {"size": 1024, "iterations": 1000, **changes})
    with pytest.raises(InvalidInput, match=message):
        Limits().check(settings, 3000, 5000)


def test_the_size_that_is_not_said_is_limited_too() -> None:
    with pytest.raises(InvalidInput, match="size is 512: this page allows 256"):
        Limits(size=256).check(make_settings("fast"), 100, 100)
    Limits().check(make_settings("fast"), 100, 100)


def test_who_has_looked_of_late_is_remembered(studio) -> None:
    first = studio.admit(None)
    second = studio.admit(None)
    for _ in range(VISITORS - 2):
        studio.admit(None)
    known = studio.visitor(first)
    studio.admit(None)
    assert studio.visitor(first) is known
    assert second not in studio._visitors


def test_a_run_that_is_done_writes_no_state(studio, wish, finish, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", fail)
    assert finish(studio.start(studio.admit(None), wish)).state == "done"


def test_a_stopped_run_whose_state_cannot_be_written_keeps_its_picture(
    studio, wish, finish, monkeypatch
) -> None:
    def fail(*_: object) -> None:
        raise OutputFailed("checkpoint: No space left on device")

    monkeypatch.setattr(checkpoint_writer, "save_checkpoint", fail)
    who = studio.admit(None)
    job = running(studio.start(who, long(wish)))
    studio.stop(who)
    assert finish(job).state == "failed"
    assert job.outcome is not None
    assert job.outcome.download
    assert "No space left" in job.outcome.text


def test_a_page_whose_folder_was_tidied_away_goes_on(studio, wish, finish) -> None:
    shutil.rmtree(studio._folder.name)
    assert finish(studio.start(studio.admit(None), wish)).state == "done"


def test_a_built_in_picture_that_was_tidied_away_is_drawn_anew(tmp_path, monkeypatch) -> None:
    pytest.importorskip("gradio")
    from fastnst.ui import boxes

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))  # which a page removes at its end
    boxes._draw.cache_clear()
    assert Path(boxes.sample_at("content", 0)).is_relative_to(tmp_path)
    Path(boxes.sample_at("content", 0)).unlink()
    assert Path(boxes.sample_at("content", 0)).exists()


def test_a_film_that_cannot_be_written_can_be_resumed(
    studio, quick, finish, tmp_path, photo, monkeypatch
) -> None:
    pytest.importorskip("av")
    pytest.importorskip("cv2")
    clip = write_clip(tmp_path / "clip.mp4", pan(3))
    film = FilmWish(
        str(clip), (str(photo("s.png", 36, 40)),), settings(iterations=2),
        options=FilmOptions(frame_iterations=1),
    )  # fmt: skip
    put = video.files.put_in_place

    def full(draft, target):
        if target.suffix == ".mp4":
            raise OSError(28, "No space left on device")
        put(draft, target)

    monkeypatch.setattr(video.files, "put_in_place", full)
    who = studio.admit(None)
    assert "resume writes it" in finish(studio.start(who, film)).error
    monkeypatch.setattr(video.files, "put_in_place", put)
    assert finish(studio.resume(who)).state == "done"


def test_all_scales_together_may_have_twice_the_iterations() -> None:
    settings = make_settings("gatys", {
        "size": 64, "min_size": 32, "scale_step": 2.0, "iterations": 100,
        "scale_iterations": (100,),
    })  # fmt: skip
    Limits(iterations=100).check(settings, 64)
    with pytest.raises(InvalidInput, match="over all scales is 199: this page allows 198"):
        Limits(iterations=99).check(replace(settings, iterations=99), 64)


def test_the_state_of_few_stopped_runs_is_kept(studio, finish, monkeypatch) -> None:
    monkeypatch.setattr("fastnst.ui.studio.RESUMABLE", 1)
    first, second = studio.admit(None), studio.admit(None)
    old, new = (finish(studio.start(who, _Asked())) for who in (first, second))
    assert not studio.resumable(studio.visitor(first))
    assert not old.folder.exists()
    assert studio.resumable(studio.visitor(second))
    assert new.folder.exists()
    finish(studio.start(second, _Asked()))  # in the place of the stopped one
    assert not new.folder.exists()
    assert studio.resumable(studio.visitor(second))


def test_the_stopped_run_of_a_visitor_who_is_forgotten_takes_nobody_s_place(
    studio, finish, monkeypatch
) -> None:
    monkeypatch.setattr("fastnst.ui.studio.VISITORS", 1)
    monkeypatch.setattr("fastnst.ui.studio.RESUMABLE", 1)
    gone = finish(studio.start(studio.admit(None), _Asked()))
    who = studio.admit(None)
    assert not gone.folder.exists()
    assert studio._stopped == []
    finish(studio.start(who, _Asked()))
    assert studio.resumable(studio.visitor(who))


def test_a_stopped_run_gives_its_place_to_the_visitor_s_next(studio, finish) -> None:
    who = studio.admit(None)
    old = finish(studio.start(who, _Asked()))
    new = finish(studio.start(who, _Asked()))
    assert studio._stopped == [new]
    assert not old.folder.exists()


def test_no_more_wait_than_there_is_room_for(studio, monkeypatch) -> None:
    monkeypatch.setattr("fastnst.ui.studio.QUEUE", 1)
    gate = threading.Event()
    first = studio.start(studio.admit(None), _Asked(gate))
    deadline = time.monotonic() + 60
    while first.state != "running" and time.monotonic() < deadline:
        time.sleep(0.01)
    studio.start(studio.admit(None), _Asked())
    with pytest.raises(InvalidInput, match="1 runs wait already; try again later"):
        studio.start(studio.admit(None), _Asked())
    gate.set()


def test_what_went_wrong_is_said_without_paths_and_options(tmp_path: Path) -> None:
    state = tmp_path / "state.checkpoint"
    for said, shown in (
        (f"checkpoint {state} is damaged: leave out --resume",
         "the stopped run is damaged: leave out resume"),
        (f"{tmp_path}/content picture is empty", "the content picture is empty"),
    ):  # fmt: skip
        assert explain(InvalidInput(said), tmp_path, state) == shown
    assert "its log says why" in explain(ValueError(f"{state}"), tmp_path, state)
