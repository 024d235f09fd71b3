"""The ``fastnst`` command: ``python -m fastnst``."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        from fastnst.cli import run_app

        code = run_app(sys.argv[1:])
    except KeyboardInterrupt:  # while importing, or twice in a row
        sys.stderr.write("fastnst: interrupted\n")
        code = 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1
    sys.exit(code)


if __name__ == "__main__":
    main()
