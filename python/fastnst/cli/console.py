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
