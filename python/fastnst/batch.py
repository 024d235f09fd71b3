"""Many pictures in one process: what is done is skipped, and what fails is noted.

Everything that a batch leaves is in the output folder: the pictures, put in place when they are
whole, and the journal ``fastnst-batch.jsonl``, with one line for each picture that was made, which
says from what and with which settings. A batch that was killed is started again with the same
command and goes on where it was.

Several batches may work on one folder, also on several machines: each claims a picture before it
makes it, and at the end waits for those that others are making, or makes them if the others die.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import json
import os
import string
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastnst import files
from fastnst.cache import Cache
from fastnst.claims import claim
from fastnst.errors import FastNSTError, InvalidInput, OutputFailed
from fastnst.fingerprint import sha256_of_file
from fastnst.images.decode import SAMPLE_PREFIX
from fastnst.images.encode import FORMATS, check_format, check_output
from fastnst.inputs.sizes import result_size
from fastnst.network.weights import BUILT_IN
from fastnst.run.checkpoint import Checkpoints
from fastnst.run.rescue import save_or_rescue
from fastnst.run.resources import UNLIMITED, Resources
from fastnst.run.result import Result
from fastnst.run.run import run
from fastnst.run.step import Step
from fastnst.settings.kinds import shown
from fastnst.settings.settings import INITS, Settings
from fastnst.tables import read_rows

JOURNAL = "fastnst-batch.jsonl"
NAME = "{content}-{style}.png"
PLACES = ("engine", "provider", "device")  # settings that say where to compute, not what
PAUSE = 1.0  # seconds between two looks at pictures that other batches are making


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
    """

    job: Job
    status: str
    message: str | None = None
    loss: float | None = None
    seconds: float = 0.0

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
        Job(content, style, folder / _fill(name, content, style), settings)
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
        if Path(name).suffix.lower() in FORMATS
        and not Path(name).name.startswith(".")
        and str(Path(name).resolve()) not in made
    )
    if not pictures:
        kind = "has no pictures in it" if path.is_dir() else "fits no picture"
        raise InvalidInput(f"{pattern} {kind}")
    return pictures


def read_table(path: Path, folder: Path, settings: Settings, name: str = NAME) -> list[Job]:
    """The jobs in a CSV file; see ``tables.py`` for what it may hold.

    Args:
        path: The file.
        folder: Where the results go; outputs in the table are relative to it.
        settings: The runs' settings, where a row says nothing else.
        name: Pattern for the name of a result whose row has no ``output``, as for ``pair``.

    Raises:
        InvalidInput: naming the file and the line at fault.
    """
    jobs = []
    for row in read_rows(path):
        style = row.styles[0] if len(row.styles) == 1 else row.styles
        output = row.output or _fill(name, row.content, style)
        try:
            changed = replace(settings, **row.changes)
        except InvalidInput as error:
            raise InvalidInput(f"table {path}, line {row.line}: {error}") from error
        jobs.append(Job(row.content, style, folder / output, changed))
    return jobs


def _fill(name: str, content: str, style: str | tuple[str, ...]) -> str:
    styles = (style,) if isinstance(style, str) else style
    stems = [Path(picture.removeprefix(SAMPLE_PREFIX)).stem for picture in (content, *styles)]
    values = {"content": stems[0], "style": "-".join(stems[1:])}
    try:
        return "".join(_filled(*part, values) for part in string.Formatter().parse(name))
    except (KeyError, ValueError) as error:
        raise InvalidInput(
            f"name is {shown(name)}: expected text with {{content}} and {{style}}"
        ) from error


def _filled(
    text: str, field: str | None, form: str | None, turned: str | None, values: Mapping[str, str]
) -> str:
    """A part of a pattern; what else Python's formats can do is not for names of files."""
    if field is None:
        return text
    if form or turned:
        raise ValueError(form)
    return text + values[field]


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


@dataclass(frozen=True)
class Progress:
    """What a callback hears after each step.

    Attributes:
        index: The number of the job, from 0.
        job: The job at hand.
        step: The step of its run.
    """

    index: int
    job: Job
    step: Step


def is_done(job: Job, journal: Mapping[str, str]) -> bool:
    """Whether the output is there and was made from the same pictures with the same settings."""
    there = os.path.isfile(job.output)  # noqa: PTH113 - False for what no system takes
    return there and journal.get(str(job.output.resolve())) == fingerprint(job)


def read_journal(folder: Path) -> dict[str, str]:
    """``{output: fingerprint}`` of the pictures that batches made in a folder.

    A line that a kill cut short counts as not written.
    """
    return Journal(folder).read()


class Journal:
    """What batches have noted in a folder, read as it grows.

    Args:
        folder: The folder.
        since: Bytes of the journal to leave out: what was noted before counts for nothing.
    """

    def __init__(self, folder: Path, since: int = 0) -> None:
        self.folder = folder
        self._at = since
        self._entries: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        """``{output: fingerprint}`` of all that was noted until now."""
        try:
            with (self.folder / JOURNAL).open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except (OSError, ValueError):  # ValueError: a NUL in the name
            return self._entries
        whole = data.rfind(b"\n") + 1
        self._at += whole
        for line in data[:whole].decode("utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, OSError, RuntimeError):
                entry = json.loads(line)
                output = (self.folder / entry["output"]).resolve()
                self._entries[str(output)] = entry["fingerprint"]
        return self._entries


def journal_size(folder: Path) -> int:
    """Bytes of a folder's journal; 0 if there is none."""
    try:
        return (folder / JOURNAL).stat().st_size
    except (OSError, ValueError):
        return 0


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


def fingerprint(job: Job) -> str | None:
    """SHA-256 of what a job's picture depends on; None if a picture is missing.

    Settings that say where to compute, and not what, do not count.
    """
    settings = job.settings.to_dict()
    for name in PLACES:
        settings.pop(name)
    sources = [job.content, *job.styles, job.settings.init, job.settings.weights]
    try:
        digests = [_file_digest(source) for source in sources]
    except OSError:
        return None
    return hashlib.sha256(json.dumps([settings, digests]).encode()).hexdigest()


def _file_digest(source: str) -> str:
    """SHA-256 of a file's bytes; of what is built in, its name."""
    if source.startswith(SAMPLE_PREFIX) or source in INITS or source in BUILT_IN:
        return source
    stat = Path(source).stat()
    return _digest(source, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=10_000)
def _digest(path: str, _modified: int, _size: int) -> str:
    return sha256_of_file(Path(path))


@dataclass(frozen=True)
class Making:
    """How the pictures of a batch are made, whatever the job.

    Attributes:
        folder: The folder that the journal goes to.
        bits: Bits of a value in the outputs, 8 or 16.
        pyramid: Whether the outputs, TIFF files, hold reduced pictures too.
        checkpoint_every: Iterations between two checkpoints of a run, from which it goes on when
            the batch is started again; 0: none, it begins again.
        resources: What each run may take of the machine.
    """

    folder: Path
    bits: int = 8
    pyramid: bool = False
    checkpoint_every: int = 0
    resources: Resources = UNLIMITED


def run_batch(
    jobs: Sequence[Job],
    folder: Path,
    *,
    bits: int = 8,
    pyramid: bool = False,
    checkpoint_every: int = 0,
    callback: Callable[[Progress], None] | None = None,
    resources: Resources = UNLIMITED,
    since: int | None = None,
) -> Iterator[Outcome]:
    """Make the pictures one after the other.

    The network, its transformed filters and the targets of styles are kept between them. A picture
    that another batch is making at the time is left to it; at the end this one waits for it.

    Args:
        jobs: What to make.
        folder: The folder that the journal goes to.
        bits: Bits of a value in the outputs, 8 or 16.
        pyramid: Whether the outputs, TIFF files, hold reduced pictures too.
        checkpoint_every: Iterations between two checkpoints of a run, from which it goes on when
            the batch is started again; 0: none, it begins again.
        callback: Called after each step; an exception ends the batch.
        resources: What each run may take of the machine.
        since: ``journal_size`` of the folder when the jobs were chosen: what other batches make
            after that is not made again. None: what it is now.

    Yields:
        What became of each job, as soon as it is known. A job that fails does not stop the others.

    Raises:
        InvalidInput: as ``check_jobs`` does, before the first job.
        Interrupted: on Ctrl-C; the pictures done until then are done.
    """
    check_jobs(jobs, bits, pyramid)
    making = Making(folder, bits, pyramid, checkpoint_every, resources)
    journal = Journal(folder, journal_size(folder) if since is None else since)
    cache = Cache()
    waiting = list(enumerate(jobs))
    while waiting:
        busy = []
        for index, job in waiting:

            def listen(step: Step, index: int = index, job: Job = job) -> None:
                if callback is not None:
                    callback(Progress(index, job, step))

            outcome = make(job, making, journal, cache, listen)
            if outcome is None:
                busy.append((index, job))
            else:
                yield outcome
        if len(busy) == len(waiting):
            time.sleep(PAUSE)
        waiting = busy


def make(
    job: Job,
    making: Making,
    journal: Journal,
    cache: Cache,
    listen: Callable[[Step], None],
) -> Outcome | None:
    """Make a picture, unless another batch is at it or has made it.

    Args:
        job: The picture.
        making: How.
        journal: What other batches have made since this one began.
        cache: What the runs of one process share.
        listen: Called after each step.

    Returns:
        What became of the job; None if another batch is making it.
    """
    with claim(job.output) as mine:
        if not mine:
            return None
        if is_done(job, journal.read()):
            return Outcome(job, "elsewhere")
        return _attempt(job, making, cache, listen)


def _attempt(job: Job, making: Making, cache: Cache, listen: Callable[[Step], None]) -> Outcome:
    began = time.perf_counter()
    try:
        size = result_size(job.content, job.settings.size, making.resources.megapixels)
        check_output(job.output, making.bits, size=size, pyramid=making.pyramid)
        made_from = fingerprint(job)  # before the run: a file may change while it runs
        begin = functools.partial(
            run,
            job.content,
            job.style,
            job.settings,
            listen,
            cache=cache,
            resources=making.resources,
        )
        result = _run(job, making.checkpoint_every, begin)
        save_or_rescue(result, job.output, making.bits, making.pyramid)
        _note(making.folder, job, made_from)
    except FastNSTError as error:
        return Outcome(job, "failed", str(error), seconds=time.perf_counter() - began)
    except Exception as error:  # noqa: BLE001 - the other jobs may be well
        lines = str(error).splitlines() or [""]
        text = f"{type(error).__name__}: {lines[0]}"
        return Outcome(job, "failed", text, seconds=time.perf_counter() - began)
    return Outcome(job, "done", loss=result.losses.total, seconds=time.perf_counter() - began)


def _run(job: Job, checkpoint_every: int, begin: Callable[..., Result]) -> Result:
    """Make a picture, or go on where its checkpoint is; ``begin`` is ``run`` for this job."""
    if not checkpoint_every:
        return begin()
    path = job.output.with_name(f".{job.output.name}.checkpoint")
    go_on = functools.partial(begin, checkpoints=Checkpoints(path, checkpoint_every))
    try:
        result = go_on(resume=path if path.exists() else None)
    except InvalidInput:
        if not path.exists():
            raise
        # It is of another run, and written over; unless this one cannot begin at all.
        result = go_on()
    path.unlink(missing_ok=True)
    return result


def _note(folder: Path, job: Job, made_from: str | None) -> None:
    """Append to the journal; a line that a kill cut short is closed first.

    One process at a time: not every file system appends to a file for several machines.
    """
    entry = {
        "output": os.path.relpath(job.output, folder),
        "content": job.content,
        "style": job.style,
        "fingerprint": made_from,
    }
    path = folder / JOURNAL
    try:
        with claim(path, seconds=-1), path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
            start = "" if not size or file.read(1) == b"\n" else "\n"
            file.write(f"{start}{json.dumps(entry)}\n".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputFailed(f"journal {path} could not be written: {error.strerror}") from error
