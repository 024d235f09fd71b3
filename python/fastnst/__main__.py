"""The ``fastnst`` command: ``python -m fastnst``."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from types import FrameType

# Of the signals that end the command: those of ``cli.interrupts``, whose import takes a while.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGUSR1", "SIGUSR2")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # what a full output says


def main() -> None:
    """Run the command line and leave with its exit code."""
    _open_streams()
    for name in NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    if not _has_folder():
        _tell("the working directory is gone: change to one that is there")
        sys.exit(2)
    try:
        from fastnst.cli import run_app
        from fastnst.cli.console import make_printable

        make_printable()
        code = run_app(sys.argv[1:])
        if sys.stdout is not None:  # as it is where a shell closed it
            sys.stdout.flush()
    except KeyboardInterrupt:
        _tell("interrupted")
        code = 130
    except BrokenPipeError:  # the reader of our output has gone
        _drop_output()
        code = 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1
    except OSError as error:
        if error.filename is not None or error.errno not in _FULL:  # not about our output
            raise
        _drop_output()
        _tell(f"the output could not be written: {error.strerror}")
        code = 1
    if _is_rank():
        from fastnst.cli.ranks import end_if_stuck

        end_if_stuck(code)
    sys.exit(code)


def _open_streams() -> None:
    """Open what the shell closed of stdin, stdout and stderr, to read and write nothing.

    The next file would have its number otherwise, and what is told on stderr would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            found = os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
            os.set_inheritable(found, True)


def _is_rank() -> bool:
    """Whether a launcher started this process as one of several."""
    return {"RANK", "WORLD_SIZE"} <= os.environ.keys()


def _has_folder() -> bool:
    """Whether the working directory is there: without one, libraries end the process."""
    try:
        return bool(os.getcwd())  # noqa: PTH109 - pathlib is not needed so early
    except OSError:
        return False


def _end(number: int, _: FrameType | None) -> None:
    """End here and now: what imports are going on would not take an exception."""
    abandon = getattr(sys.modules.get("fastnst.claims"), "abandon", None)
    if abandon is not None:  # else nothing is claimed yet
        abandon()
    if number == getattr(signal, "SIGTERM", None) and _is_rank():
        os._exit(128 + number)  # a launcher ends what is left of its ranks, and has the word
    with contextlib.suppress(OSError):
        os.write(2, b"fastnst: interrupted\n")
    os._exit(128 + number)


def _drop_output() -> None:
    """Send what stdout still holds nowhere, so that it is not tried again at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(message: str) -> None:
    with contextlib.suppress(OSError, AttributeError):  # stderr is None where a shell closed it
        sys.stderr.write(f"fastnst: {message}\n")


if __name__ == "__main__":
    main()
