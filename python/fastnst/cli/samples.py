"""``fastnst samples`` and ``fastnst presets``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastnst import samples
from fastnst.cli import console
from fastnst.errors import FastNSTError, InvalidInput


def list_samples(
    directory: Annotated[
        Path | None, typer.Argument(help="Write the pictures into this folder.")
    ] = None,
) -> None:
    """List the built-in pictures, or write them into a folder."""
    if directory is not None:
        try:
            if directory.exists() and not directory.is_dir():
                raise InvalidInput(f"{directory} is not a folder")
            for path in samples.write_all(directory):
                print(path)
        except OSError as error:
            if isinstance(error, FastNSTError):
                raise
            raise InvalidInput(f"{directory} cannot be written: {error.strerror}") from error
        return
    from rich.table import Table

    table = Table("name", "kind", "what it shows", box=None, pad_edge=False)
    for name, sample in samples.SAMPLES.items():
        table.add_row(f"{samples.PREFIX}{name}", sample.kind, sample.description)
    console.out().print(table)
