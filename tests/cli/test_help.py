"""The help at 80 columns: the basics on the first screen, defaults said, every setting there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastnst.cli import run_app
from fastnst.cli.options import default_text, flag, help_text
from fastnst.settings.settings import DEFAULTS, SPECS
from fastnst.settings.spec import BASICS, GROUPS

COMMANDS = ("stylize", "texture", "reconstruct", "batch", "sheet", "video", "export", "ui")


@pytest.fixture
def help_of(monkeypatch, capsys) -> Callable[..., str]:
    """The help of a command as it is printed at 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")

    def print_it(command: str, option: str = "-h") -> str:
        assert run_app([command, option]) == 0
        return str(capsys.readouterr().out)

    return print_it


def test_the_basics_are_on_the_first_screen(help_of) -> None:
    lines = help_of("stylize").splitlines()
    assert all(len(line) <= 80 for line in lines)
    first = "\n".join(lines[:24])
    assert "Example: fastnst stylize" in first
    assert first.count("╰") == 2  # the arguments and the basics, to their ends
    basics = first.split(f"╭─ {GROUPS[1]}")[0].split()
    for name, of in SPECS.items():
        assert (flag(name) in basics) == (of.group == BASICS), name
    assert "--output" in first
    assert "--preset" in first


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_stands_in_its_panel(help_of, command: str) -> None:
    text = help_of(command)
    assert text == help_of(command, "--help")
    panels = {part.split(" ─")[0]: part for part in text.split("╭─ ")[1:]}
    for group in GROUPS:
        panel = panels["Options" if group == BASICS else group].split()
        for name, of in SPECS.items():
            assert (flag(name) in panel) == (of.group == group), (name, group)


def test_defaults_are_those_of_the_settings() -> None:
    for name in SPECS:
        assert help_text(name).endswith(f"default: {default_text(name)})")
        assert default_text(name) not in ("None", "")
    assert default_text("style_weight") == f"{DEFAULTS['style_weight']:g}"
    assert default_text("size") == "512 GPU, 256 CPU"
    assert default_text("style_layers") == "relu1_1,relu2_1,…,relu5_1"
