"""``fastnst presets``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from fastnst.cli import console
from fastnst.settings.presets import DESCRIPTIONS, PRESETS, needs_torchvision
from fastnst.settings.settings import Settings


def list_presets(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the presets and how they differ from the defaults."""
    if as_json:
        print(json.dumps({name: preset.to_dict() for name, preset in PRESETS.items()}, indent=2))
        return
    from rich.markup import escape
    from rich.table import Table

    defaults = Settings().to_dict()
    table = Table("preset", "what it is", "settings", box=None, pad_edge=False)
    for name, preset in PRESETS.items():
        changed = {k: v for k, v in preset.to_dict().items() if v != defaults[k]}
        note = "; needs the package torchvision" if needs_torchvision(preset) else ""
        table.add_row(
            name,
            f"{DESCRIPTIONS[name]}{note}",
            escape("\n".join(f"{k} = {console.show(v)}" for k, v in changed.items()))
            or "the defaults",
        )
    console.out().print(table)
