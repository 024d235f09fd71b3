"""Many content × style pairs: what is done is skipped, and what fails is noted."""

from fastnst.batch.done import is_done
from fastnst.batch.in_turn import Progress, run_batch
from fastnst.batch.jobs import Job, Outcome, check_jobs, expand, pair, read_table, shard
from fastnst.batch.journal import journal_size, read_journal
from fastnst.batch.make import Making

__all__ = [
    "Job",
    "Making",
    "Outcome",
    "Progress",
    "check_jobs",
    "expand",
    "is_done",
    "journal_size",
    "pair",
    "read_journal",
    "read_table",
    "run_batch",
    "shard",
]
