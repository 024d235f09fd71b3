"""What is done is known by its pictures and settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

import fastnst
from fastnst.batch.done import fingerprint, is_done
from fastnst.batch.in_turn import run_batch
from fastnst.batch.jobs import Job
from fastnst.batch.journal import read_journal
from helpers.batches import SMALL, jobs_of
from helpers.pictures import smooth


def test_what_is_done_is_known_by_its_pictures_and_settings(pictures: Path) -> None:
    jobs = jobs_of(pictures)
    out = pictures / "out"
    list(run_batch(jobs, out))
    assert all(is_done(job, read_journal(out)) for job in jobs)
    moved = jobs_of(
        pictures, fastnst.make_settings("gatys", {**SMALL.to_dict(), "engine": "torch"})
    )
    assert all(is_done(job, read_journal(out)) for job in moved)  # only where it is computed
    other = jobs_of(pictures, fastnst.make_settings("gatys", {**SMALL.to_dict(), "seed": 1}))
    assert not any(is_done(job, read_journal(out)) for job in other)
    Image.fromarray(smooth(41, 36, 9)).save(pictures / "c" / "one.png")
    jobs[2].output.unlink()
    assert [is_done(job, read_journal(out)) for job in jobs] == [False, False, False, True]


def test_a_fingerprint_needs_the_files(pictures: Path) -> None:
    job = jobs_of(pictures)[0]
    assert fingerprint(job) == fingerprint(job)
    (pictures / "c" / "one.png").unlink()
    assert fingerprint(job) is None
    assert not is_done(job, {str(job.output.resolve()): "x"})


def test_a_picture_that_is_missing_is_not_done(pictures: Path) -> None:
    """Though something stands where its result would, which no batch has made."""
    job = jobs_of(pictures)[0]
    job.output.write_bytes(b"somebody's")
    (pictures / "c" / "one.png").unlink()
    assert not is_done(job, {})


def test_bits_and_smaller_copies_count(pictures: Path) -> None:
    jobs, out = jobs_of(pictures)[:1], pictures / "out"
    list(run_batch(jobs, out))
    journal = read_journal(out)
    assert is_done(jobs[0], journal)
    assert not is_done(jobs[0], journal, bits=16)
    assert not is_done(jobs[0], journal, pyramid=True)
    (again,) = run_batch(jobs, out, bits=16)
    assert again.status == "done"
    assert is_done(jobs[0], read_journal(out), bits=16)
    with Image.open(jobs[0].output) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize("name", ["matched", "vgg19"])
def test_a_picture_whose_file_has_a_built_in_name_counts_by_its_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    found = []
    for seed in range(2):
        Image.fromarray(smooth(40 + seed, 36, seed)).save(name, "PNG")
        for pictures in ((name, "sample:ink"), ("sample:ink", name)):
            found.append(fingerprint(Job(*pictures, tmp_path / "out.png", SMALL)))
    assert None not in found
    assert len(set(found)) == 4
    built_in = replace(SMALL, init="matched", weights="vgg19")  # though there are such files
    assert fingerprint(Job("sample:ink", "sample:ink", tmp_path / "out.png", built_in)) is not None


@pytest.mark.parametrize("name", ["init", "weights"])
def test_what_a_setting_names_counts_by_its_contents(pictures: Path, name: str) -> None:
    path = pictures / "named"
    path.write_bytes(b"one")
    job = replace(jobs_of(pictures)[0], settings=replace(SMALL, **{name: str(path)}))
    before = fingerprint(job)
    path.write_bytes(b"another")
    assert before is not None
    assert fingerprint(job) not in (before, None)
