"""Where the command line prints: results on stdout, everything else on stderr.

Whatever is printed can be printed everywhere: what an encoding lacks is written otherwise, and a
terminal or pipe that takes no more loses the message, not the run.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console

_SPELLED = {
    "×": "x", "→": "->", "α": "alpha", "β": "beta", "τ": "tau", "√": "sqrt", "…": "...",
    "–": "-", "—": "-", "’": "'", "·": "*", "²": "^2", "≥": ">=", "≤": "<=", "Σ": "sum",
    "━": "-", "╸": "-", "╺": "-", "─": "-", "│": "|", "╭": "+", "╮": "+", "╰": "+", "╯": "+",
    "•": "*",
}  # fmt: skip
_HANDLER = "fastnst"
_NUMBER = re.compile(r"[1-9][0-9]{0,4}")
NARROWEST = 16  # columns; in fewer there is no room for a word


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """What an encoding lacks in other words; bytes of a file name that are no text as they are."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    char = error.object[error.start]
    if "\udc80" <= char <= "\udcff":
        return bytes([ord(char) - 0xDC00]), error.start + 1
    spelled = _SPELLED.get(char)
    if spelled is None:
        spelled = char.encode("ascii", "backslashreplace").decode("ascii")
    return spelled, error.start + 1


def make_printable() -> None:
    """Let stdout and stderr take every text, whatever their encoding and their width.

    A width that is none, as the 0 of some editors and services, or one that has no room for a word,
    counts as not said.
    """
    codecs.register_error(_HANDLER, _spell)
    for name, least in (("COLUMNS", NARROWEST), ("LINES", 1), ("TERMINAL_WIDTH", NARROWEST)):
        value = os.environ.get(name, str(least))
        if not _NUMBER.fullmatch(value) or int(value) < least:
            del os.environ[name]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def out() -> Console:
    """Rich's console on stdout."""
    from rich.console import Console

    return Console(highlight=False, emoji=False)


def err() -> Console:
    """Rich's console on stderr; what stderr does not take is lost."""
    from rich.console import Console

    stream = sys.stderr  # None where a shell closed it
    file = None if stream is None else cast(TextIO, _Lossy(stream))
    return Console(file=file, stderr=True, highlight=False, emoji=False, soft_wrap=True)


class _Lossy(io.TextIOBase):
    """Text for a stream that may take no more: a terminal that was closed, a full disk.

    Args:
        stream: Where it goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of the stream."""
        return self._stream.encoding

    def write(self, text: str) -> int:
        """Write it, or lose it."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Let the stream write what it has, or lose it."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The stream's number."""
        return self._stream.fileno()


def say(message: str) -> None:
    """Print a line on stderr; if stderr takes no more, it is lost."""
    from rich.markup import escape

    err().print(escape(message))


def complain(message: str) -> None:
    """Print one line that says what went wrong; if stderr takes no more, it is lost."""
    line = " ".join(message.split())
    if sys.stderr is not None and not _shows_colours():
        print(f"fastnst: {line}", file=_Lossy(sys.stderr), flush=True)
        return
    from rich.markup import escape

    err().print(f"[bold red]fastnst:[/] {escape(line)}")


def _shows_colours() -> bool:
    """Whether Rich may colour what goes to stderr; it takes a while to import."""
    return bool({"FORCE_COLOR", "TTY_COMPATIBLE"} & os.environ.keys()) or sys.stderr.isatty()


def show(value: Any) -> str:
    """A setting's value as a person would write it."""
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def duration(seconds: float) -> str:
    """As a person would say it: ``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
