"""Several pictures of a batch at a time: the same pictures, whoever dies."""

from __future__ import annotations

import os
import signal
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastnst
from fastnst.batch import workers
from fastnst.batch.done import is_done
from fastnst.batch.in_turn import run_batch
from fastnst.batch.jobs import Job, pair
from fastnst.batch.journal import read_journal
from fastnst.batch.make import Making
from fastnst.batch.workers import Report, run_in_workers, shared_out
from fastnst.claims import claim
from helpers.pictures import smooth

SMALL = fastnst.Settings(
    size=32, iterations=3, style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_1",)
)


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """Two contents with two styles."""
    for seed, name in enumerate(("c/one.png", "c/two.png", "s/a.png", "s/b.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(smooth(40 + seed, 36, seed)).save(tmp_path / name)
    (tmp_path / "out").mkdir()
    return pair([str(tmp_path / "c")], [str(tmp_path / "s")], tmp_path / "out", SMALL)


def check_pictures(jobs: list[Job]) -> None:
    """Each is there, noted, and what a run by itself makes; nothing else is left."""
    folder = jobs[0].output.parent
    for job in jobs:
        assert is_done(job, read_journal(folder))
        alone = fastnst.stylize(job.content, job.style, **job.settings.to_dict())
        with Image.open(job.output) as image:
            assert np.array_equal(np.asarray(image), np.asarray(alone.image))
    names = {path.name for path in folder.iterdir()}
    assert names == {"fastnst-batch.jsonl", *(job.output.name for job in jobs)}


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_its_picture_made(jobs: list[Job]) -> None:
    heard: list[Report] = []

    def hear(report: Report) -> None:
        if not heard:
            for child in active_children():
                os.kill(child.pid or 0, signal.SIGKILL)  # both, in the middle of a picture
        heard.append(report)

    making = Making(jobs[0].output.parent)
    outcomes = list(run_in_workers(jobs, making, 2, threads=2, callback=hear))
    assert [outcome.status for outcome in outcomes] == ["done"] * 4
    assert {outcome.job.output for outcome in outcomes} == {job.output for job in jobs}
    lines = (making.folder / "fastnst-batch.jsonl").read_text().splitlines()
    assert len(lines) == 4  # each once
    check_pictures(jobs)
    assert not active_children()


@pytest.mark.slow
def test_a_picture_that_kills_its_workers_counts_as_failed(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hear(_: Report) -> None:
        for child in active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    monkeypatch.setattr(workers, "TRIES", 1)
    (outcome,) = run_in_workers(jobs[:1], Making(jobs[0].output.parent), 1, callback=hear)
    assert (outcome.status, outcome.message) == (
        "failed", "the process that made it was ended by signal 9"
    )  # fmt: skip
    assert not active_children()
    assert not list(jobs[0].output.parent.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="signals of POSIX")
def test_what_ends_while_the_batch_is_ended_is_told(jobs: list[Job]) -> None:
    """And workers hear of no signal that the batch answers, whoever gets it too."""
    late = []

    def hear(report: Report) -> None:
        if report.iteration == SMALL.iterations:
            for child in active_children():
                os.kill(child.pid or 0, signal.SIGUSR1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run_in_workers(jobs[:1], Making(jobs[0].output.parent), 1, callback=hear,
                            late=late.append))  # fmt: skip
    assert [(outcome.status, outcome.job) for outcome in late] == [("done", jobs[0])]
    check_pictures(jobs[:1])


@pytest.mark.slow
def test_an_exception_of_the_callback_ends_all(jobs: list[Job]) -> None:
    def hear(_: Report) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run_in_workers(jobs, Making(jobs[0].output.parent), 2, callback=hear))
    assert not active_children()
    assert not [path for path in jobs[0].output.parent.iterdir() if path.name[0] == "."]


@pytest.mark.slow
def test_what_another_batch_makes_meanwhile_is_not_made_again(jobs: list[Job]) -> None:
    folder = jobs[0].output.parent
    claimed = claim(jobs[0].output)
    assert claimed.__enter__()
    ended = []
    for outcome in run_in_workers(jobs[:2], Making(folder), 1, since=0):
        ended.append((outcome.status, outcome.job.output.name))
        if len(ended) == 1:  # the other one: now this one is made by somebody else
            claimed.__exit__(None, None, None)
            (made,) = run_batch(jobs[:1], folder)
            assert made.status == "done"
    assert ended == [("done", jobs[1].output.name), ("elsewhere", jobs[0].output.name)]
    check_pictures(jobs[:2])


def test_threads_are_shared_out() -> None:
    assert shared_out(8, 3) == [3, 3, 2]
    assert shared_out(2, 2) == [1, 1]
    assert shared_out(1, 3) == [1, 1, 1]
    for threads in range(1, 20):
        for count in range(1, 20):
            assert sum(shared_out(threads, count)) == max(threads, count)


def test_no_pictures_need_no_workers(tmp_path: Path) -> None:
    assert not list(run_in_workers([], Making(tmp_path), 4))


@pytest.mark.parametrize(
    ("part", "parts", "gpus", "numbers", "share"),
    [
        (0, 1, 1, [None, None], 400),
        (0, 1, 4, [0, 1], 800),
        (1, 2, 4, [2, 3], 800),
        (1, 2, 2, [2, 3], 400),
        (1, 4, 1, [None, None], 100),
    ],
)
def test_workers_of_all_ranks_take_the_gpus_in_turn(
    part: int,
    parts: int,
    gpus: int,
    numbers: list[int | None],
    share: int,
    jobs: list[Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    class Worker:
        def __init__(self, making: Making, since: int, threads: int, number: int | None) -> None:
            made.append((number, making.resources.memory))

    monkeypatch.setattr(workers, "_Worker", Worker)
    monkeypatch.setattr(workers, "gpus", lambda device: gpus)
    monkeypatch.setattr("fastnst.devices.gpus", lambda device: gpus)
    monkeypatch.setattr(workers, "available", lambda device: 800)
    monkeypatch.setattr(workers._Crew, "make", lambda *_: iter(()))
    monkeypatch.setattr(workers._Crew, "end", lambda *_: None)
    making = Making(jobs[0].output.parent)
    assert not list(run_in_workers(jobs, making, 2, part=part, parts=parts))
    assert [number for number, _ in made] == numbers
    assert {memory for _, memory in made} == {share}
