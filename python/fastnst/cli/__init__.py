"""The command line: parses, shows progress, prints. The work is done by the library.

A command is a function in a module of its own and a line here. The options for the settings of a
run are those of ``options.py``, the same for every command that takes them.

Modules here import torch, and what needs it, inside the functions that do the work: help, listings
and refusals come at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from fastnst._version import __version__
from fastnst.cli.batch import batch
from fastnst.cli.console import complain
from fastnst.cli.export import export
from fastnst.cli.info import info
from fastnst.cli.inputs import taken_for_option
from fastnst.cli.presets import list_presets
from fastnst.cli.ranks import COMMAND, check_command, said_by_rank
from fastnst.cli.samples import list_samples
from fastnst.cli.sheet import sheet
from fastnst.cli.stylize import stylize
from fastnst.cli.synthesis import reconstruct, texture
from fastnst.cli.ui import ui
from fastnst.cli.video import video
from fastnst.errors import FastNSTError

USAGE = 2  # the exit code of bad usage

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},  # of the commands too
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Neural style transfer by optimisation (Gatys, Ecker and Bethge).\n\n"
    "Example: fastnst stylize photo.jpg painting.jpg -o out.png",
)
app.command()(stylize)
app.command()(texture)
app.command()(reconstruct)
app.command()(batch)
app.command()(sheet)
app.command()(video)
app.command()(ui)
app.command()(export)
app.command()(info)
app.command("samples")(list_samples)
app.command("presets")(list_presets)


def run_app(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; every expected error becomes one line.

    0 done, 1 failed, 2 bad input or usage, 130 interrupted.
    """
    if arguments and arguments[0] == "help":
        arguments = [*arguments[1:2], "--help"]
    try:
        COMMAND.set(tuple(arguments))
        app(list(arguments), prog_name="fastnst")
    except SystemExit as left:
        if left.code == USAGE and (name := taken_for_option(arguments)) is not None:
            complain(f"{name} is read as an option: write ./{name} for the file")
        return left.code if isinstance(left.code, int) else 1
    except FastNSTError as error:
        complain(said_by_rank(str(error)))
        return error.exit_code
    return 0


def _version(value: bool) -> None:
    if value:
        print(f"fastnst {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    check_command(context.invoked_subcommand)
