"""The documents name options that there are, and no option is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from fastnst import cli
from fastnst.settings.presets import PRESETS
from fastnst.settings.settings import SPECS


def options() -> set[str]:
    commands = typer.main.get_command(cli.make_app()).commands.values()
    return {opt for command in commands for p in command.params for opt in p.opts}


@pytest.mark.parametrize("name", ["features.md", "recipes.md"])
def test_every_option_that_is_named_exists(repository: Path, name: str) -> None:
    path = repository / "docs" / name
    if not path.is_file():
        pytest.skip("not in a checkout")
    # An option of fastnst stands first in its code; those of other systems are within tables.
    named = re.findall(r"`(--[a-z][a-z-]+)", path.read_text())
    assert len(named) > 20
    theirs = {
        "--list-layers", "--style-layer-weight-exp", "--width", "--preserve-color", "--init",
        "--initial", "--deterministic", "--color_convert_time", "--overwrite", "--maxgpufit",
    }  # fmt: skip
    assert set(named) - theirs <= options()


def test_every_control_is_explained(repository: Path) -> None:
    path = repository / "docs" / "recipes.md"
    if not path.is_file():
        pytest.skip("not in a checkout")
    text = path.read_text()
    elsewhere = {  # the README's, or without influence on the picture
        "preprocessing", "weights", "history_size", "seed",
        "engine", "device", "precision", "provider",
    }  # fmt: skip
    for name in SPECS:
        flag = f"--{name.replace('_', '-')}"
        assert name in elsewhere or flag in text, flag
    for preset in PRESETS:
        assert preset in text or preset in ("gatys", "fast"), preset
