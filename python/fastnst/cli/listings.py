"""``fastnst samples`` and ``fastnst presets``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from fastnst import samples
from fastnst.cli import console
from fastnst.errors import InvalidInput
from fastnst.presets import DESCRIPTIONS, PRESETS
from fastnst.settings import Settings


def list_samples(
    directory: Annotated[
        Path | None, typer.Argument(help="Write the pictures into this folder.")
    ] = None,
) -> None:
    """List the built-in pictures, or write them into a folder."""
    if directory is not None:
        if directory.exists() and not directory.is_dir():
            raise InvalidInput(f"{directory} is not a folder")
        try:
            for path in samples.write_all(directory):
                print(path)
        except OSError as error:
            raise InvalidInput(f"{directory} cannot be written: {error.strerror}") from error
        return
    table = Table("name", "kind", "what it shows", box=None, pad_edge=False)
    for name, sample in samples.SAMPLES.items():
        table.add_row(f"sample:{name}", sample.kind, sample.description)
    console.out.print(table)


def list_presets(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the presets and how they differ from the defaults."""
    if as_json:
        print(json.dumps({name: preset.to_dict() for name, preset in PRESETS.items()}, indent=2))
        return
    defaults = Settings().to_dict()
    table = Table("preset", "what it is", "settings", box=None, pad_edge=False)
    for name, preset in PRESETS.items():
        changed = {k: v for k, v in preset.to_dict().items() if v != defaults[k]}
        table.add_row(
            name,
            DESCRIPTIONS[name],
            escape("\n".join(f"{k} = {console.show(v)}" for k, v in changed.items()))
            or "the defaults",
        )
    console.out.print(table)
