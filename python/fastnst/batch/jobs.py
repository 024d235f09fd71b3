"""What a batch makes: pairs of pictures from folders and globs, or the rows of a table."""

from __future__ import annotations

import glob
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastnst import files
from fastnst.batch.journal import read_journal
from fastnst.batch.names import NAME, fill
from fastnst.batch.tables import read_rows
from fastnst.errors import InvalidInput
from fastnst.images.decode import SAMPLE_PREFIX
from fastnst.images.formats import SUFFIXES, holds_picture
from fastnst.images.outputs import check_format
from fastnst.settings.kinds import shown
from fastnst.settings.settings import Settings


@dataclass(frozen=True)
class Job:
    """One picture to make.

    Attributes:
        content: A path or ``sample:NAME``.
        style: A path or ``sample:NAME``; or several, blended as the settings say.
        output: The file that the result is written to.
        settings: The settings of the run.
    """

    content: str
    style: str | tuple[str, ...]
    output: Path
    settings: Settings

    @property
    def styles(self) -> tuple[str, ...]:
        """The styles, one or several."""
        return (self.style,) if isinstance(self.style, str) else self.style

    @property
    def pictures(self) -> str:
        """What is made from what, for people."""
        return f"{self.content} with {' and '.join(self.styles)}"


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: The job.
        status: ``done``, ``failed``, or ``elsewhere`` if another batch made it meanwhile.
        message: Why it failed, in one line.
        loss: The total loss of the picture; None if it was not made here.
        seconds: How long it took.
        bad_input: Whether it failed for what it was given, so that another try would fail too.
    """

    job: Job
    status: str
    message: str | None = None
    loss: float | None = None
    seconds: float = 0.0
    bad_input: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "content": self.job.content,
            "style": self.job.style,
            "output": str(self.job.output),
            "status": self.status,
            "message": self.message,
            "loss": self.loss,
            "seconds": round(self.seconds, 3),
        }


def pair(
    contents: Sequence[str],
    styles: Sequence[str],
    folder: Path,
    settings: Settings,
    name: str = NAME,
) -> list[Job]:
    """A job for every content with every style.

    Args:
        contents: Files, folders (the pictures in them), globs or ``sample:NAME``.
        styles: Files, folders, globs or ``sample:NAME``.
        folder: The folder that the results go to.
        settings: The settings of every run.
        name: The file name of a result; ``{content}`` and ``{style}`` become the names of the two
            pictures, without suffix.

    Raises:
        InvalidInput: for a pattern that fits nothing, or a name that does not tell results apart.
    """
    made = set(read_journal(folder))  # what batches made there before is no content
    return [
        Job(content, style, folder / fill(name, content, style), settings)
        for content in expand(contents, made)
        for style in expand(styles, made)
    ]


def expand(patterns: Sequence[str], made: Container[str] = ()) -> list[str]:
    """The pictures that files, folders, globs and ``sample:NAME`` stand for, each once.

    Args:
        patterns: Those.
        made: Resolved paths of pictures that folders and globs do not stand for.

    Raises:
        InvalidInput: for one that stands for nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        try:
            found.update(dict.fromkeys(_pictures(pattern, made)))
        except InvalidInput:
            raise
        except (OSError, ValueError, RuntimeError) as error:  # a NUL; a loop of links
            reason = getattr(error, "strerror", None) or error
            raise InvalidInput(f"{shown(pattern)} cannot be read: {reason}") from error
    return list(found)


def _pictures(pattern: str, made: Container[str]) -> list[str]:
    path = Path(pattern)
    if not pattern:
        raise InvalidInput("a picture's name is empty")
    if pattern.startswith(SAMPLE_PREFIX) or path.is_file():
        return [pattern]
    names = map(str, path.iterdir()) if path.is_dir() else glob.glob(pattern, recursive=True)  # noqa: PTH207
    pictures = sorted(
        name
        for name in names
        if not Path(name).name.startswith(".")
        and _is_picture(Path(name))
        and str(Path(name).resolve()) not in made
    )
    if not pictures:
        kind = "has no pictures in it" if path.is_dir() else "fits no picture"
        raise InvalidInput(f"{pattern} {kind}")
    return pictures


def _is_picture(path: Path) -> bool:
    """Whether a file is named as pictures are, so that a damaged one is said.

    Other names are those of copies that programs keep beside a picture, and of what is none. A file
    without a suffix is a picture by its content.
    """
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    try:
        return holds_picture(path)
    except OSError:  # somebody else's
        return False


def read_table(
    path: Path,
    folder: Path,
    settings: Settings | Callable[[Mapping[str, Any]], Settings],
    name: str = NAME,
) -> list[Job]:
    """The jobs in a CSV file; see ``tables.py`` for what it may hold.

    Args:
        path: The file.
        folder: Where the results go; outputs in the table are relative to it.
        settings: The runs' settings, where a row says nothing else; or what makes those of a run
            from what its row says, ``{setting: value}``.
        name: Pattern for the name of a result whose row has no ``output``, as for ``pair``.

    Raises:
        InvalidInput: naming the file and the line at fault.
    """
    jobs = []
    for row in read_rows(path):
        style = row.styles[0] if len(row.styles) == 1 else row.styles
        output = row.output or fill(name, row.content, style)
        try:
            if isinstance(settings, Settings):
                own = replace(settings, **row.changes)
            else:
                own = settings(row.changes)
        except InvalidInput as error:
            raise InvalidInput(f"table {path}, line {row.line}: {error}") from error
        jobs.append(Job(row.content, style, folder / output, own))
    return jobs


def check_jobs(jobs: Sequence[Job], bits: int = 8, pyramid: bool = False) -> None:
    """Make sure, before the work starts, that every job has a file of its own to write to.

    Raises:
        InvalidInput: for two jobs with the same output, or one that cannot be written.
    """
    inputs = {f"the picture {p}": p for job in jobs for p in (job.content, *job.styles)}
    outputs: dict[Path, Job] = {}
    for job in jobs:
        check_format(job.output, bits, pyramid=pyramid)
        try:
            other = outputs.setdefault(job.output.resolve(), job)
        except (OSError, ValueError, RuntimeError) as error:  # a NUL; a loop of links
            reason = getattr(error, "strerror", None) or error
            raise InvalidInput(f"output {job.output} cannot be written: {reason}") from error
        if other is not job:
            raise InvalidInput(
                f"{other.pictures} and {job.pictures} would both "
                f"be {job.output}; name the results otherwise, or each in a table"
            )
    files.check_outputs({f"the output {job.output}": job.output for job in jobs}, inputs)


def shard(jobs: Sequence[Job], number: int, count: int) -> list[Job]:
    """The part of a batch that falls to one of several processes: every ``count``-th job.

    Each job is in exactly one part, and a part does not depend on what is done already. It depends
    on the list, which must be the same for all.

    Args:
        jobs: All jobs.
        number: Which part, from 1.
        count: How many parts there are.
    """
    return list(jobs[number - 1 :: count])
