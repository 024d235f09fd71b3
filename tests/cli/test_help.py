"""The help at 80 columns: the basics on the first screen, defaults said, every setting there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastnst.cli import run_app
from fastnst.cli.options import default_text, flag, help_text
from fastnst.settings.presets import DEFAULT_PRESET, FIRST_PRESET, PRESETS
from fastnst.settings.settings import SPECS
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
    for preset in (DEFAULT_PRESET, FIRST_PRESET):
        for name in SPECS:
            text = default_text(name, preset)
            assert help_text(name, preset).endswith(f"default: {text})")
            assert text not in ("None", "")
        own = PRESETS[preset]
        assert default_text("style_weight", preset) == f"{own.style_weight:g}"
        assert default_text("iterations", preset) == str(own.iterations)
    assert default_text("size") == "512"
    assert default_text("style_layers") == "relu1_1,relu2_1,…,relu5_1"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_its_own_defaults(help_of, command: str) -> None:
    """A texture has no content to start from, an export no run: theirs is the paper's recipe."""
    preset = DEFAULT_PRESET if command in ("texture", "reconstruct", "export") else FIRST_PRESET
    words = " ".join(help_of(command).replace("│", " ").split())
    assert f"See fastnst presets. (default: {preset})" in words
    assert help_text("iterations", preset) in words
