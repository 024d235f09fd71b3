"""``fastnst sheet``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastnst.cli import naming
from fastnst.cli.console import complain, duration, say
from fastnst.cli.inputs import check_init, check_pictures
from fastnst.cli.interrupts import Interrupts
from fastnst.cli.options import (
    ON_THE_WAY,
    Chosen,
    Json,
    MaxMegapixels,
    Memory,
    Picture,
    Quiet,
    Scratch,
    chosen_options,
    read_resources,
)
from fastnst.cli.outputs import check_run, numbered
from fastnst.images.outputs import check_output
from fastnst.sheet.axes import PICTURES, read_axes
from fastnst.sheet.cells import make_cells
from fastnst.strips.budget import amount

if TYPE_CHECKING:
    from fastnst.estimate import Estimate
    from fastnst.run.step import Step
    from fastnst.sheet.sheet import Outcome, Sheet


@chosen_options
def sheet(
    content: Annotated[str, typer.Argument(help="A file, or sample:NAME.")],
    style: Annotated[
        list[str] | None, typer.Argument(help="One or more of these; none if style is varied.")
    ] = None,
    *,
    output: Picture = None,
    chosen: Chosen,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            help="What to vary: a setting, content, style or preset; once, or twice for rows and "
            "columns.",
            metavar="NAME=VALUE,…",
        ),
    ] = None,
    memory: Memory = None,
    scratch: Scratch = None,
    max_megapixels: MaxMegapixels = None,
    only_estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            help="Say how much memory and time it takes, and stop.",
            rich_help_panel=ON_THE_WAY,
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make a picture for each of several values, on one sheet with labels.

    Values stand between commas; between semicolons where they have commas. What is done is on the
    sheet: Ctrl-C leaves it with the cells so far.

    Example: fastnst sheet photo.jpg painting.jpg -o sheet.png --vary style-weight=5,20,80
    """
    axes = read_axes(vary or ())
    varied = {axis.name: axis.values for axis in axes if axis.name in PICTURES}
    contents, styles = varied.get("content", (content,)), varied.get("style", style or ())
    check_pictures(contents, styles)
    cells = make_cells(content, style, axes, chosen.checked)
    target = naming.target(output, content, *(style or ()), "sheet")
    inputs = {**numbered("content", contents), **numbered("style", styles)}
    for cell in cells:  # whose settings may name other files each
        check_init(cell.settings)
        check_run(inputs, cell.settings, {"--output": target}, bits=8, size=lambda: None)
    resources = read_resources(memory, scratch, max_megapixels)

    from fastnst.sheet.sheet import Sheet

    made = Sheet(axes, cells, resources, keeps_results=False)
    check_output(target, size=made.size)
    if only_estimate:
        from fastnst.sheets import estimate_cells

        _print_estimate(made, estimate_cells(made.cells, resources), as_json)
        return

    from fastnst.cli.progress import SeriesBar
    from fastnst.sheet.growing import GrowingFile

    failed: list[Outcome] = []
    with Interrupts() as interrupts:
        try:
            with (
                SeriesBar(made.iterations, show=not quiet) as bar,
                GrowingFile(made, target) as file,
            ):

                def listen(number: int, step: Step) -> None:
                    name = made.cells[number].name
                    bar.step(number, name, step.iteration, step.losses.total)
                    interrupts.after_step(step)
                    file.update()

                for outcome in made.paint(listen):
                    file.update()
                    if outcome.message is not None:
                        failed.append(outcome)
                        complain(f"{outcome.cell.name}: {outcome.message}")
                    if file.is_whole:
                        interrupts.at_rest()
            interrupts.at_rest()
        except KeyboardInterrupt:
            if as_json:
                print(json.dumps(made.to_dict(str(target))))
            complain(f"interrupted; {_so_far(made, target)}")
            raise typer.Exit(interrupts.exit_code) from None
    if as_json:
        print(json.dumps(made.to_dict(str(target))))
    if not quiet:
        say(_summary(made, target))
    if failed:
        raise typer.Exit(1)


def _so_far(made: Sheet, target: Path) -> str:
    if not made.outcomes:
        return "before there was a picture"
    return f"{made.made} of {len(made.cells)} pictures are in {target}"


def _summary(made: Sheet, target: Path) -> str:
    width, height = made.size
    return (
        f"{target}: {width}×{height}, {made.made} of {len(made.cells)} pictures in "
        f"{duration(made.seconds)}"
    )


def _print_estimate(made: Sheet, needs: Sequence[Estimate], as_json: bool) -> None:
    width, height = made.size
    seconds, most = sum(need.seconds for need in needs), max(need.bytes for need in needs)
    if as_json:
        cells = [
            {"row": cell.row, "column": cell.column, "name": cell.name, **asdict(need)}
            for cell, need in zip(made.cells, needs, strict=True)
        ]
        about = {"width": width, "height": height, "seconds": seconds, "bytes": most}
        print(json.dumps({**about, "cells": cells}))
        return
    print(
        f"{width}×{height}, {len(needs)} pictures: about {duration(seconds)} and {amount(most)} "
        "of memory"
    )
