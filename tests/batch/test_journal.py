"""The journal is read as it grows, and half a line counts for nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fastnst.batch.done import is_done
from fastnst.batch.in_turn import run_batch
from fastnst.batch.journal import JOURNAL, Journal, journal_size, read_journal
from helpers.batches import jobs_of


def test_a_journal_line_that_was_cut_short_counts_for_nothing(pictures: Path) -> None:
    jobs = jobs_of(pictures)[:2]
    out = pictures / "out"
    list(run_batch(jobs, out))
    journal = out / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-30])  # the second
    assert [is_done(job, read_journal(out)) for job in jobs] == [True, False]
    list(run_batch(jobs[1:], out))
    assert [is_done(job, read_journal(out)) for job in jobs] == [True, True]
    journal.write_text('[1]\n"words"\n{"output": 5}\n\n' + journal.read_text())
    assert [is_done(job, read_journal(out)) for job in jobs] == [True, True]


def test_an_output_outside_a_folder_that_is_a_link_is_found(pictures: Path) -> None:
    real, link = pictures / "far" / "away", pictures / "link"
    real.mkdir(parents=True)
    link.symlink_to(real, target_is_directory=True)
    (job,) = jobs_of(pictures)[:1]
    job = replace(job, output=pictures / "elsewhere.png")
    assert [outcome.status for outcome in run_batch([job], link)] == ["done"]
    assert is_done(job, read_journal(link))


def test_a_journal_is_read_as_it_grows(pictures: Path) -> None:
    out = pictures / "out"
    path = out / JOURNAL
    path.write_text('{"output": "a.png", "fingerprint": "1"}\n')
    journal = Journal(out, journal_size(out))
    assert journal.read() == {}
    with path.open("a") as file:
        file.write('{"output": "a.png", "fingerprint": "2"}\n{"output": "b.png", ')
    assert journal.read() == {str((out / "a.png").resolve()): "2"}
    with path.open("a") as file:
        file.write('"fingerprint": "3"}\n')
    assert journal.read()[str((out / "b.png").resolve())] == "3"
    assert read_journal(out) == journal.read()
