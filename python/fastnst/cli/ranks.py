"""``--ranks`` and its companions: a command that starts itself once for each rank of a run."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Annotated, Any

import typer

from fastnst.cli.console import complain
from fastnst.cli.inputs import STANDARD_INPUT
from fastnst.cli.options import SIDE_BY_SIDE
from fastnst.cli.until_end import UNTIL_END
from fastnst.errors import FastNSTError, InvalidInput
from fastnst.ranks.launch import Plan, end_with_launcher, is_rank, rank, still_speaking
from fastnst.run.shareable import refuse, unavailable_reason
from fastnst.settings.settings import Settings


def _beside(metavar: str, help_: str, show_default: bool = False) -> Any:
    """An option of the panel for several processes."""
    return typer.Option(
        metavar=metavar, help=help_, show_default=show_default, rich_help_panel=SIDE_BY_SIDE
    )


Ranks = Annotated[
    int | None, _beside("N", "Compute the picture in N processes, each some bands of its rows.")
]
BatchRanks = Annotated[
    int | None,
    _beside("N", "Make the pictures in N processes; with --machines on each of them."),
]
Machines = Annotated[
    str | None,
    _beside("MIN:MAX", "And on so many machines, each with N; the same command starts on each."),
]
Join = Annotated[
    str | None,
    _beside("HOST:PORT", "Where the machines meet: one of them. Its network must be trusted."),
]
Restarts = Annotated[
    int,
    _beside("N", "Start all again after a failure, up to N times, to go on.", show_default=True),
]
RankTimeout = Annotated[
    float,
    _beside("SECONDS", "How long a rank waits for another before all end.", show_default=True),
]
TIMEOUT = 600.0
ALONE = ("sheet", "video", "ui", "export")  # commands without ranks
WORD_SECONDS = 2.0  # that a rank waits for rank 0 to say why it ends, and to have said it
COMMAND: ContextVar[Sequence[str]] = ContextVar("COMMAND", default=())  # as it was typed


def check_ranks(
    plan: Plan | None, timeout: float, preview: bool, settings: Settings, *pictures: str
) -> None:
    """Make sure that several processes can do what is asked for, as far as it is known at once.

    Raises:
        InvalidInput: for a time limit that is none, a picture from standard input, which one
            process alone can read, a preview, whose pictures the ranks would make at any time, or
            settings of a run that needs the whole picture.
    """
    if plan is None and not is_rank():
        return
    if not 1 <= timeout < 1e6:
        raise InvalidInput(f"--rank-timeout is {timeout:g}: expected 1 to 1000000 seconds")
    if preview:
        raise InvalidInput("--preview is not for ranks: --save-every shows pictures on the way")
    if STANDARD_INPUT in pictures:
        raise InvalidInput("ranks cannot read a picture from standard input: name a file")
    if plan is not None and plan.ranks * plan.most > 1 and not is_rank():
        reason = unavailable_reason(settings)
        if reason is not None:
            raise refuse(plan.ranks * plan.most, reason)


def check_command(name: str | None) -> None:
    """Make sure that a command is not started once for each rank that would do all of it each time.

    Args:
        name: The command; None: there is none.

    Raises:
        InvalidInput: if it writes files and ranks do not share its work.
    """
    if name in ALONE and (refusal := _one_of_several(f"fastnst {name} is")):
        raise InvalidInput(f"{refusal}; several share stylize, texture, reconstruct and batch")


def check_estimate(plan: Plan | None) -> None:
    """Make sure that ``--estimate`` is asked of the one process that it speaks of.

    Raises:
        InvalidInput: if there are ranks, or are to be.
    """
    if plan is not None:
        raise InvalidInput("--estimate is of one process: leave out --ranks")
    if refusal := _one_of_several("--estimate is of"):
        raise InvalidInput(refusal)


def _one_of_several(what: str) -> str | None:
    """Why this process, one of several ranks, does not do it; None: it is not one of several."""
    processes = os.environ.get("WORLD_SIZE")
    if not is_rank() or processes == "1":
        return None
    return (
        f"{what} one process, and this is one of {processes} (WORLD_SIZE): start it without "
        "torchrun"
    )


def share_picture(
    plan: Plan | None, settings: Settings, size: Callable[[], tuple[int, int] | None]
) -> None:
    """Where ranks are asked for and this process is none of them: start them, once they can share.

    Args:
        plan: What is asked for; None: no ranks, and nothing happens.
        settings: The settings of the run.
        size: Width and height of the result, or more than they can be; None: not known.

    Raises:
        typer.Exit: when all have ended.
        InvalidInput: if there are too many, with how many could; if its device has no ranks.
        BackendUnavailable: if the device that was asked for cannot be used, or if the machines do
            not meet.
    """
    if plan is None or is_rank():
        return
    from fastnst.run.sharing import check_before_start

    if plan.ranks * plan.most > 1:
        check_before_start(settings, plan.ranks * plan.least, size())
    start_ranks(plan)


def start_ranks(plan: Plan) -> None:
    """Start this command once for each rank, and leave with its exit code.

    Raises:
        typer.Exit: when all have ended.
        BackendUnavailable: if the machines do not meet.
    """
    from fastnst.ranks.agent import run_ranks

    if (until_end := UNTIL_END.get()) is not None:
        until_end.close()  # the first rank claims the result's name
    raise typer.Exit(run_ranks(("-c", _program(), *COMMAND.get()), plan, complain))


def _program() -> str:
    """What Python runs in each rank: the command, which imports from where this process does.

    ``-m fastnst`` would look in the working directory first, where a ``torch.py`` may lie.
    """
    return f"import sys; sys.path[0] = {sys.path[0]!r}; from fastnst.__main__ import main; main()"


@contextlib.contextmanager
def as_rank(timeout: float) -> Iterator[None]:
    """While it lasts, this process is one of the ranks of a run; where it is none, nothing happens.

    Raises:
        typer.Exit: for whatever ends it early, once that was said with the number of the rank.
    """
    if not is_rank():
        yield
        return
    from fastnst.ranks.communication import join, leave

    end_with_launcher(complain)
    try:
        join(timeout)
        yield
    except (typer.Exit, KeyboardInterrupt):
        leave("it was interrupted")
        raise
    except FastNSTError as error:
        raise _said(error) from error
    except Exception as error:
        lines = str(error).splitlines() or [""]
        raise _said(FastNSTError(f"{type(error).__name__}: {lines[0]}")) from error
    leave()


def _said(error: FastNSTError) -> typer.Exit:
    """Say why this rank ends, then let the others know, of whom a launcher ends all at the first.

    Returns:
        What to leave with.
    """
    from fastnst.ranks.communication import leave

    if isinstance(error, InvalidInput) and _rank_0_says(str(error)):
        leave()
    else:
        complain(said_by_rank(str(error)))
        leave(str(error))
    return typer.Exit(error.exit_code)


def _rank_0_says(reason: str) -> bool:
    """Whether rank 0 ends for the same reason and says so: then this one need not.

    What no rank can do, such as sharing a picture that is too small, all find out together.
    """
    from fastnst.ranks.communication import current

    if rank() == 0:
        return False
    current().fail(reason)
    same = current().word_of(0, WORD_SECONDS) == reason
    if same:
        time.sleep(WORD_SECONDS)  # a launcher ends rank 0 as soon as this one has ended
    return same


def end_if_stuck(code: int) -> None:
    """End this process here, if a thread of it still waits for a meeting point that is gone.

    Python's own end would unwind the thread within torch's C++, which aborts the process.
    """
    if still_speaking():
        os._exit(code)


def said_by_rank(message: str) -> str:
    """A message that says which rank it is from, if it does not yet."""
    name = f"rank {os.environ.get('RANK')}"
    alone = not is_rank() or os.environ.get("WORLD_SIZE") == "1"
    return message if alone or message.startswith(name) else f"{name}: {message}"
