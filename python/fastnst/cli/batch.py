"""``fastnst batch``."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastnst.cli.console import complain, duration, say
from fastnst.cli.inputs import check_exists
from fastnst.cli.interrupts import Interrupts
from fastnst.cli.options import (
    ON_THE_WAY,
    OUTPUT,
    Bits,
    MaxMegapixels,
    Memory,
    Pyramid,
    Quiet,
    Scratch,
    read_resources,
    settings_options,
)
from fastnst.errors import InvalidInput
from fastnst.settings.settings import Settings

if TYPE_CHECKING:
    from fastnst.batch import Job, Outcome, Progress


@settings_options
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
    settings: Settings,
    name: Annotated[
        str, typer.Option(help="Pattern for the results' names.", rich_help_panel=OUTPUT)
    ] = "{content}-{style}.png",
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
    if checkpoint_every < 0:
        raise InvalidInput(f"--checkpoint-every is {checkpoint_every}: expected 0 or more")
    resources = read_resources(memory, scratch, max_megapixels)
    if os.path.exists(output) and not output.is_dir():  # noqa: PTH110 - False for what no system takes
        raise InvalidInput(f"output {output} is not a folder")
    _check_sources(contents, styles, table)

    from fastnst.batch import check_jobs, is_done, read_journal, run_batch
    from fastnst.cli.progress import SeriesBar

    jobs = _jobs(contents or [], styles or [], table, output, settings, name)
    check_jobs(jobs, bits, pyramid)
    journal = {} if overwrite else read_journal(output)
    done = [job for job in jobs if is_done(job, journal)]
    todo = [job for job in jobs if job not in done]
    if dry_run:
        for job in jobs:
            print(f"{'done' if job in done else 'to do'}: {job.pictures} → {job.output}")
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"output {output} cannot be made: {error.strerror}") from error
    outcomes: list[Outcome] = []
    with Interrupts() as interrupts:
        try:
            iterations = [job.settings.iterations for job in todo]
            with SeriesBar(iterations, show=not quiet) as show:

                def listen(progress: Progress) -> None:
                    show(progress.index, progress.job.output.name, progress.step)
                    interrupts.after_step(progress.step)

                for outcome in run_batch(
                    todo,
                    output,
                    bits=bits,
                    pyramid=pyramid,
                    checkpoint_every=checkpoint_every,
                    callback=listen,
                    resources=resources,
                ):
                    outcomes.append(outcome)
                    if as_json:
                        print(json.dumps(outcome.to_dict()), flush=True)
                    if outcome.status == "failed":
                        complain(f"{outcome.job.output.name}: {outcome.message}")
                    interrupts.at_rest()
        except KeyboardInterrupt:
            complain(f"interrupted; {_count(outcomes, done)}; the same command goes on")
            raise typer.Exit(interrupts.exit_code) from None
    if not quiet:
        say(f"{output}: {_count(outcomes, done)}")
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed and not quiet and len(outcomes) > len(failed):
        say("failed: " + ", ".join(outcome.job.output.name for outcome in failed))
    if failed:
        raise typer.Exit(1)


def _jobs(
    contents: list[str],
    styles: list[str],
    table: Path | None,
    output: Path,
    settings: Settings,
    name: str,
) -> list[Job]:
    from fastnst.batch import pair, read_table

    if table is not None:
        return read_table(table, output, settings, name)
    return pair(contents, styles, output, settings, name)


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


def _count(outcomes: list[Outcome], skipped: list[Job]) -> str:
    count = Counter(outcome.status for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    return (
        f"{count['done']} done, {len(skipped)} were done before, {count['failed']} failed, "
        f"in {duration(seconds)}"
    )
