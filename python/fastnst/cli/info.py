"""``fastnst info``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from fastnst.cli import console
from fastnst.cli.options import Threads, asked_threads, use_threads


def info(
    threads: Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what was built, what was found and what will be chosen."""
    use_threads(asked_threads(threads))
    from fastnst.info import info as installation

    report = installation()
    if as_json:
        print(json.dumps(report, indent=2))
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for section, value in report.items():
        for key, text in _rows(section, value):
            table.add_row(key, escape(text))
    console.out().print(table)


def _rows(key: str, value: Any) -> list[tuple[str, str]]:
    """A nested report as ``section.key``, text."""
    if isinstance(value, dict):
        return [row for k, v in value.items() for row in _rows(f"{key}.{k}", v)]
    if value is None:
        return [(key, "yes" if key.startswith(("engines.", "onnx.providers.")) else "-")]
    return [(key, console.show(value))]
