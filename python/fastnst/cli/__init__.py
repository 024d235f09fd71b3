"""The command line: parses, shows progress, prints. The work is done by the library.

A command is a function in a module of its own and a line here. The options for the settings of a
run are those of ``options.py``, the same for every command that takes them.

Modules here import torch, and what needs it, inside the functions that do the work: help, listings
and refusals come at once. For the same reason a command's module is imported when it is asked for.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer

from fastnst.cli.console import complain
from fastnst.cli.until_end import until_end
from fastnst.errors import FastNSTError

USAGE = 2  # the exit code of bad usage
COMMANDS = {  # in the order of the help; the function of each, in fastnst.cli
    "stylize": "stylize.stylize",
    "texture": "synthesis.texture",
    "reconstruct": "synthesis.reconstruct",
    "batch": "batch.batch",
    "sheet": "sheet.sheet",
    "video": "video.video",
    "ui": "ui.ui",
    "export": "export.export",
    "info": "info.info",
    "samples": "samples.list_samples",
    "presets": "presets.list_presets",
}
# What Typer raises for wrong usage. It exports this class only as the parent of another.
UsageError = cast(type[Exception], typer.BadParameter.__base__)


def run_app(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code; every expected error becomes one line.

    0 done, 1 failed, 2 bad input or usage, 130 interrupted.
    """
    if arguments and arguments[0] == "help":
        arguments = [*arguments[1:2], "--help"]
    from fastnst.cli.ranks import COMMAND, said_by_rank

    try:
        COMMAND.set(tuple(arguments))
        with until_end():
            code = make_app(arguments)(list(arguments), prog_name="fastnst", standalone_mode=False)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    except typer.Abort:
        return 130
    except UsageError as error:
        _explain(error, arguments)
        return USAGE
    except FastNSTError as error:
        complain(said_by_rank(str(error)))
        return error.exit_code
    except (MemoryError, RuntimeError) as error:  # outside of a run, which says what would fit
        from fastnst.run.exhaustion import ran_out

        if not ran_out(error):
            raise
        complain(said_by_rank("this process may not have the memory that it needs"))
        return 1
    return code if isinstance(code, int) else 0


def make_app(arguments: Sequence[str] = ()) -> typer.Typer:
    """The command line with the command that is asked for; with all of them if it is none."""
    app = typer.Typer(
        context_settings={"help_option_names": ["-h", "--help"]},  # of the commands too
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        help="Neural style transfer by optimisation (Gatys, Ecker and Bethge).\n\n"
        "Example: fastnst stylize photo.jpg painting.jpg -o out.png",
    )
    app.callback()(_common)
    asked = arguments[0] if arguments else ""
    completes = "_FASTNST_COMPLETE" in os.environ  # a shell asks what there is
    names = [asked] if asked in COMMANDS and not completes else list(COMMANDS)
    for name in names:
        module, function = COMMANDS[name].split(".")
        found = getattr(importlib.import_module(f"fastnst.cli.{module}"), function)
        app.command(name)(found)
    return app


def _explain(error: Any, arguments: Sequence[str]) -> None:
    """Say in one line what is wrong with a command, and where its options are listed."""
    from fastnst.cli.inputs import taken_for_option

    message = error.format_message()
    if not message:  # no command at all: its help
        error.show()
        return
    path = "fastnst" if error.ctx is None else error.ctx.command_path
    complain(f"{message[0].lower()}{message[1:].rstrip('.')} (see {path} --help)")
    if (name := taken_for_option(arguments)) is not None:
        complain(f"{name} is read as an option: write ./{name} for the file")


def _version(value: bool) -> None:
    if value:
        from fastnst._version import __version__

        print(f"fastnst {__version__}")
        raise typer.Exit


def _common(
    context: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    from fastnst.cli.ranks import check_command

    check_command(context.invoked_subcommand)
