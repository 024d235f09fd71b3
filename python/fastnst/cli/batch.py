"""``fastnst batch``."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastnst import samples
from fastnst.batch.names import NAME, fill
from fastnst.cli.console import complain, duration, say
from fastnst.cli.inputs import STANDARD_INPUT, check_exists, check_init
from fastnst.cli.interrupts import Interrupts
from fastnst.cli.options import (
    ON_THE_WAY,
    OUTPUT,
    SIDE_BY_SIDE,
    Bits,
    Chosen,
    MaxMegapixels,
    Memory,
    Pyramid,
    Quiet,
    Scratch,
    chosen_options,
    read_resources,
)
from fastnst.cli.ranks import BatchRanks, Join, Machines, Restarts, said_by_rank, start_ranks
from fastnst.cli.sharing import read_shard
from fastnst.errors import InvalidInput
from fastnst.ranks.launch import (
    INCOMPLETE,
    end_with_launcher,
    is_launched,
    is_rank,
    local_rank,
    local_ranks,
    read_plan,
    writes,
)
from fastnst.run.resources import Resources
from fastnst.settings.settings import Settings

if TYPE_CHECKING:
    from fastnst.batch.in_turn import Progress
    from fastnst.batch.jobs import Job, Outcome
    from fastnst.batch.make import Making
    from fastnst.batch.workers import Report
    from fastnst.cli.progress import SeriesBar

SINCE = "FASTNST_BATCH_SINCE"  # bytes of the journal when the launcher began, for its ranks


@chosen_options
def batch(
    contents: Annotated[
        list[str] | None,
        typer.Argument(help="Content pictures: files, folders, globs in quotes, sample:NAME."),
    ] = None,
    *,
    styles: Annotated[
        list[str] | None, typer.Option("--style", "-s", help="Style pictures, likewise; repeat it.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="CSV file with columns content, style, and perhaps output and settings."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    chosen: Chosen,
    name: Annotated[
        str, typer.Option(help="Pattern for the results' names.", rich_help_panel=OUTPUT)
    ] = NAME,
    bits: Bits = 8,
    pyramid: Pyramid = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Make again what is done already.", rich_help_panel=OUTPUT
        ),
    ] = False,
    checkpoint_every: Annotated[
        int,
        typer.Option(
            help="Keep the state of a run every N iterations, to go on from; 0: no.",
            rich_help_panel=ON_THE_WAY,
        ),
    ] = 0,
    memory: Memory = None,
    scratch: Scratch = None,
    max_megapixels: MaxMegapixels = None,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            help="Pictures at a time, each in a process; they share the threads and the memory.",
            rich_help_panel=SIDE_BY_SIDE,
        ),
    ] = 1,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Make only part I of N, e.g. 2/8: for the tasks of a job scheduler.",
            rich_help_panel=SIDE_BY_SIDE,
        ),
    ] = None,
    ranks: BatchRanks = None,
    machines: Machines = None,
    join: Join = None,
    restarts: Restarts = 0,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="List what would be made, and stop.", rich_help_panel=ON_THE_WAY
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print a JSON object for each picture on stdout.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
) -> None:
    """Give every CONTENT every --style, or make the pairs of a --table.

    What is done already is skipped; after a bad file it goes on; the same command goes on where a
    killed one was.

    Example: fastnst batch photos/ --style paintings/ -o results/
    """
    settings = chosen.checked()  # of a row that says nothing else
    if checkpoint_every < 0:
        raise InvalidInput(f"--checkpoint-every is {checkpoint_every}: expected 0 or more")
    resources = read_resources(memory, scratch, max_megapixels)
    part = read_shard(shard)
    fill(name, "content", "style")  # a pattern that is none is said at once
    plan = read_plan(ranks, machines, join, restarts)
    if os.path.exists(output) and not output.is_dir():  # noqa: PTH110 - False for what no system takes
        raise InvalidInput(f"output {output} is not a folder")
    _check_sources(contents, styles, table)

    from fastnst.batch.done import is_done
    from fastnst.batch.jobs import check_jobs
    from fastnst.batch.jobs import shard as only_part
    from fastnst.batch.journal import Journal, journal_size
    from fastnst.batch.make import Making, iterations
    from fastnst.cli.progress import SeriesBar

    jobs = _jobs(contents or [], styles or [], table, output, chosen, name)
    check_jobs(jobs, bits, pyramid)
    for job in jobs:
        check_init(job.settings)
    jobs = only_part(jobs, *part)
    since = _begun_at() if is_rank() else None  # ranks that are started again go on
    since = journal_size(output) if since is None else since
    journal = Journal(output, since if overwrite else 0).read()
    done = [job for job in jobs if is_done(job, journal, bits, pyramid)]
    made = {job.output for job in done}
    todo = [job for job in jobs if job.output not in made]
    if dry_run:
        for job in jobs:
            print(f"{'done' if job.output in made else 'to do'}: {job.pictures} → {job.output}")
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"output {output} cannot be made: {error.strerror}") from error
    if plan is not None and not is_rank():
        os.environ[SINCE] = str(since)
        try:
            start_ranks(plan)
        finally:
            del os.environ[SINCE]
    if is_rank():
        end_with_launcher(complain)
        resources = _beside_others(resources, settings, workers)
    making = Making(output, bits, pyramid, checkpoint_every, resources)
    outcomes: list[Outcome] = []
    began = time.perf_counter()

    def so_far() -> str:
        return _count(outcomes, done, time.perf_counter() - began)

    def take(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if as_json and not (is_rank() and outcome.status == "elsewhere"):
            print(json.dumps(outcome.to_dict()), flush=True)
        if outcome.status == "failed":
            complain(said_by_rank(f"{outcome.job.output.name}: {outcome.message}"))

    with Interrupts(is_rank()) as interrupts:
        try:
            counts = [iterations(job, max_megapixels) for job in todo]
            numbers = {str(job.output): number for number, job in enumerate(todo)}
            with (
                SeriesBar(counts, show=writes() and not quiet) as bar,
                contextlib.closing(
                    _run(todo, making, workers, since, bar, interrupts, take)
                ) as ended,
            ):
                for outcome in ended:
                    bar.end(numbers[str(outcome.job.output)])
                    take(outcome)
                    interrupts.at_rest()
        except KeyboardInterrupt:
            if writes():
                again = " without --overwrite" if overwrite else ""
                complain(f"interrupted; {so_far()}; the same command{again} goes on")
            raise typer.Exit(interrupts.exit_code) from None
    quiet = quiet or not writes()
    if not quiet:
        say(f"{output}: {so_far()}")
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed and not quiet and len(outcomes) > len(failed):
        say("failed: " + ", ".join(outcome.job.output.name for outcome in failed))
    if failed:
        hopeless = is_launched() and all(outcome.bad_input for outcome in failed)
        raise typer.Exit(INCOMPLETE if hopeless else 1)


def _begun_at() -> int | None:
    """Where the journal ended when the launcher of this rank looked; None: there is none."""
    text = os.environ.get(SINCE, "")
    return int(text) if text.isascii() and text.isdigit() else None


def _beside_others(resources: Resources, settings: Settings, workers: int) -> Resources:
    """What this process may take, where several ranks of a machine make the batch.

    They take the GPUs in turn, from here on; workers do that for themselves.
    """
    from fastnst.devices import choose_device, gpus, take_turn, turns
    from fastnst.run.available import available

    if local_ranks() == 1:
        return resources
    device = choose_device(settings.device)
    if gpus(device) > 1:
        take_turn(local_rank())
    limit, sharing = resources.memory, local_ranks()
    if limit is None:
        if workers > 1:
            return resources
        limit, sharing = available(device), turns(local_ranks(), device)
    return replace(resources, memory=None if limit is None else max(1, limit // sharing))


def _run(
    jobs: Sequence[Job],
    making: Making,
    workers: int,
    since: int,
    bar: SeriesBar,
    interrupts: Interrupts,
    late: Callable[[Outcome], None],
) -> Generator[Outcome, None, None]:
    """Make the pictures, in this process or in several.

    Args:
        jobs: What to make.
        making: How.
        workers: How many processes.
        since: Where the journal ended when the jobs were chosen.
        bar: Shows the steps.
        interrupts: Asked after each step.
        late: Called with what becomes of a job while the batch is being interrupted.
    """
    if workers > 1:
        from fastnst.batch.workers import run_in_workers

        def hear(report: Report) -> None:
            name = jobs[report.index].output.name
            bar.step(report.index, name, report.iteration, report.loss)
            interrupts.after_step()

        yield from run_in_workers(
            *(jobs, making, workers),
            since=since,
            callback=hear,
            late=late,
            part=local_rank(),
            parts=local_ranks(),
        )
        return
    from fastnst.batch.in_turn import run_batch

    def listen(progress: Progress) -> None:
        name, step = progress.job.output.name, progress.step
        bar.step(progress.index, name, step.iteration, step.losses.total)
        interrupts.after_step()

    yield from run_batch(
        jobs,
        making.folder,
        bits=making.bits,
        pyramid=making.pyramid,
        checkpoint_every=making.checkpoint_every,
        callback=listen,
        resources=making.resources,
        since=since,
    )


def _jobs(
    contents: list[str],
    styles: list[str],
    table: Path | None,
    output: Path,
    chosen: Chosen,
    name: str,
) -> list[Job]:
    from fastnst.batch.jobs import pair, read_table

    if table is not None:
        return read_table(table, output, chosen.settings, name)
    return pair(contents, styles, output, chosen.settings(), name)


def _check_sources(
    contents: Sequence[str] | None, styles: Sequence[str] | None, table: Path | None
) -> None:
    """Make sure that there are pairs, or a table of them, and not both."""
    if table is None and not (contents and styles):
        raise InvalidInput("name content pictures and at least one --style, or a --table")
    if table is not None:
        if contents or styles:
            raise InvalidInput("--table names the pictures; leave out CONTENTS and --style")
        check_exists(table, "table")
    for source in (*(contents or ()), *(styles or ())):
        if source == STANDARD_INPUT:
            raise InvalidInput("a batch reads no picture from standard input: name files")
        if source and not source.startswith(samples.PREFIX) and not glob.has_magic(source):
            check_exists(source)


def _count(outcomes: list[Outcome], skipped: list[Job], seconds: float) -> str:
    count = Counter(outcome.status for outcome in outcomes)
    elsewhere = f"{count['elsewhere']} by other batches, " if count["elsewhere"] else ""
    return (
        f"{count['done']} done, {elsewhere}{len(skipped)} were done before, "
        f"{count['failed']} failed, in {duration(seconds)}"
    )
