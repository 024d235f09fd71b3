"""Where the command line prints: results on stdout, everything else on stderr."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

err = Console(stderr=True, highlight=False, soft_wrap=True)
out = Console(highlight=False)


def complain(message: str) -> None:
    """Print one line that says what went wrong."""
    err.print(f"[bold red]fastnst:[/] {escape(' '.join(message.split()))}")


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
