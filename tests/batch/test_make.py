"""One picture of a batch: from its checkpoint, and when it fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastnst
from fastnst.batch import make
from fastnst.batch.done import is_done
from fastnst.batch.in_turn import Progress, run_batch
from fastnst.batch.jobs import Job
from fastnst.batch.journal import read_journal
from fastnst.batch.make import checkpoint_path, iterations
from fastnst.run.checkpoint_writer import CheckpointWriter
from fastnst.run.run import run
from helpers.batches import SMALL, jobs_of, statuses
from helpers.pictures import smooth


def test_a_batch_goes_on_from_the_checkpoint_of_a_run(pictures: Path) -> None:
    jobs = jobs_of(pictures)[:1]
    out = pictures / "out"
    heard = []

    def stop(progress: Progress) -> None:
        heard.append(progress.step.iteration)
        if heard == [0, 1, 2]:
            raise KeyboardInterrupt

    with pytest.raises(fastnst.Interrupted):
        list(run_batch(jobs, out, checkpoint_every=1, callback=stop))
    assert [p.name for p in out.iterdir()] == [".one-a.png.checkpoint"]
    assert statuses(run_batch(jobs, out, checkpoint_every=1, callback=stop)) == ["done"]
    assert heard == [0, 1, 2, 3]
    whole = run(jobs[0].content, jobs[0].style, SMALL)
    with Image.open(jobs[0].output) as image:
        assert np.array_equal(np.asarray(image), np.asarray(whole.image))
    assert sorted(p.name for p in out.iterdir()) == ["fastnst-batch.jsonl", "one-a.png"]


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"size": 1024}, 525),
        ({"size": 512, "iterations": 7}, 7 + 150),
        ({"size": None}, 450),
        ({"size": 0}, 450),  # the built-in picture has 768 pixels: 384 and 768
        ({"size": 1024, "min_size": None}, 300),
    ],
    ids=str,
)
def test_the_iterations_of_a_picture_are_those_of_all_its_scales(changes: dict, count: int) -> None:
    settings = fastnst.make_settings("hires", changes)
    job = Job("sample:harbour", "sample:swirl", Path("out.png"), settings)
    assert iterations(job) == count
    missing = replace(job, content="missing.png")  # of which the first scale alone is known
    assert iterations(missing) == (300 if changes["size"] == 0 else count)


def test_they_are_those_that_a_run_has(pictures: Path) -> None:
    many = replace(SMALL, min_size=10, scale_iterations=(2, 1))
    (job, *_), heard = jobs_of(pictures, replace(many, size=0)), []
    list(run_batch([job], pictures / "out", callback=lambda progress: heard.append(progress.step)))
    assert iterations(job) == heard[-1].iterations == heard[-1].iteration


@pytest.mark.parametrize("every", [2, 0])
@pytest.mark.parametrize("damage", ["other settings", "cut", "more iterations"])
def test_a_checkpoint_that_does_not_fit_is_gone_when_its_picture_is_made(
    pictures: Path, damage: str, every: int
) -> None:
    jobs = jobs_of(pictures)[:1]
    path = pictures / "out" / ".one-a.png.checkpoint"
    if damage == "cut":
        path.write_bytes(b"half a checkpoint")
    elif damage == "other settings":
        fastnst.stylize(jobs[0].content, jobs[0].style, size=32, iterations=1, checkpoint=path)
    else:
        more = replace(SMALL, iterations=5).to_dict()
        fastnst.stylize(jobs[0].content, jobs[0].style, checkpoint=path, **more)
    outcomes = list(run_batch(jobs, pictures / "out", checkpoint_every=every))
    assert statuses(outcomes) == ["done"]
    assert not path.exists()
    whole = run(jobs[0].content, jobs[0].style, SMALL)
    with Image.open(jobs[0].output) as image:
        assert np.array_equal(np.asarray(image), np.asarray(whole.image))


@pytest.mark.parametrize("full", [2, 3])
def test_a_finished_picture_is_saved_though_its_last_checkpoint_was_not(
    pictures: Path, monkeypatch, full: int
) -> None:
    """The disk is full from that iteration on; there are three."""
    (job,), out = jobs_of(pictures)[:1], pictures / "out"
    note = CheckpointWriter.note

    def note_or_fail(self, iterate, *given) -> None:
        if iterate.iteration >= full:
            raise fastnst.OutputFailed("No space left on device")
        note(self, iterate, *given)

    monkeypatch.setattr(CheckpointWriter, "note", note_or_fail)
    (outcome,) = run_batch([job], out, checkpoint_every=1)
    assert outcome.status == ("done" if full == 3 else "failed")
    assert is_done(job, read_journal(out)) == (full == 3)
    averaged = replace(job, settings=replace(job.settings, averaging=0.5, seed=1))
    (outcome,) = run_batch([averaged], out, checkpoint_every=1)
    assert outcome.status == "failed"  # the average comes after that checkpoint


def test_a_checkpoint_stays_until_its_picture_is_saved(pictures: Path, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    (job,), out = jobs_of(pictures)[:1], pictures / "out"
    monkeypatch.setattr(make, "save_or_rescue", fail)
    assert statuses(run_batch([job], out, checkpoint_every=1)) == ["failed"]
    assert checkpoint_path(job.output).exists()


def test_a_bad_file_does_not_stop_the_others(pictures: Path, monkeypatch) -> None:
    (pictures / "c" / "a-bad.png").write_text("words")
    real = make.run

    def run(content, *args, **kwargs):
        if "two" in content:
            raise RuntimeError("out of memory\nand a long story")
        return real(content, *args, **kwargs)

    monkeypatch.setattr(make, "run", run)
    outcomes = list(run_batch(jobs_of(pictures), pictures / "out"))
    assert statuses(outcomes) == ["failed"] * 2 + ["done"] * 2 + ["failed"] * 2
    assert "a-bad.png is not a picture" in str(outcomes[0].message)
    assert [outcome.bad_input for outcome in outcomes] == [True] * 2 + [False] * 4
    assert outcomes[5].message == "RuntimeError: out of memory"
    assert sorted(p.name for p in (pictures / "out").iterdir()) == [
        "fastnst-batch.jsonl", "one-a.png", "one-b.png"
    ]  # fmt: skip


def test_memory_that_runs_out_loses_no_checkpoint(pictures: Path) -> None:
    """It is said of the run, not of the checkpoint that it goes on from."""
    (job,) = jobs_of(pictures)[:1]
    out, path = pictures / "out", pictures / "out" / ".one-a.png.checkpoint"

    def stop(progress: Progress) -> None:
        if progress.step.iteration == 2:
            raise KeyboardInterrupt

    with pytest.raises(fastnst.Interrupted):
        list(run_batch([job], out, checkpoint_every=1, callback=stop))
    before = path.read_bytes()

    def run_out(progress: Progress) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    (outcome,) = run_batch([job], out, checkpoint_every=1, callback=run_out)
    assert outcome.status == "failed"
    assert "ran out of memory" in str(outcome.message)
    assert not outcome.bad_input  # of another moment, or rank
    assert path.read_bytes() == before


def test_a_picture_of_a_file_that_changed_meanwhile_is_not_done(pictures: Path) -> None:
    """What it was made from is what the file held before."""
    (job,) = jobs_of(pictures)[:1]
    out = pictures / "out"

    def change(progress: Progress) -> None:
        Image.fromarray(smooth(41, 36, 9)).save(job.content)

    assert statuses(run_batch([job], out, callback=change)) == ["done"]
    assert not is_done(job, read_journal(out))


def test_a_checkpoint_has_a_name_that_file_systems_take() -> None:
    """Another one for each output, also where they begin alike."""
    assert checkpoint_path(Path("out/a.png")) == Path("out/.a.png.checkpoint")
    names = {checkpoint_path(Path(f"ä{'m' * 240}{end}.png")).name for end in "abc"}
    assert len(names) == 3
    assert max(len(name.encode()) for name in names) <= 255
