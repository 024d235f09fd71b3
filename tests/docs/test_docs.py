"""The documentation says what is true: its code runs, its commands and options exist, it builds."""

from __future__ import annotations

import pydoc
import re
import shlex
from pathlib import Path

import pytest
import typer

from fastnst.cli import make_app
from fastnst.settings.presets import PRESETS
from fastnst.settings.reference import tables
from helpers import REPOSITORY

PAGES = [*sorted((REPOSITORY / "docs").rglob("*.md")), REPOSITORY / "README.md"]
pytestmark = pytest.mark.skipif(not (REPOSITORY / "mkdocs.yml").is_file(), reason="no checkout")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


SNIPPETS = [
    pytest.param(code, id=f"{page.stem}-{number}")
    for page in PAGES
    if page.parent.name == "docs"
    for number, code in enumerate(blocks(page, "python"))
]


@pytest.mark.parametrize("code", SNIPPETS)
def test_its_code_runs(code: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    if "stylize_video" in code:
        pytest.importorskip("cv2")
    exec(compile(code, "documentation", "exec"), {})  # noqa: S102 - our own pages


def commands() -> list[list[str]]:
    found = []
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                found += [words] if words[:1] == ["fastnst"] else []
    return found


def test_its_commands_and_options_exist() -> None:
    root = typer.main.get_command(make_app())
    seen = commands()
    assert len(seen) >= 8
    for words in seen:
        command = root.commands[words[1]]  # type: ignore[attr-defined]
        options = {name for parameter in command.params for name in parameter.opts}
        for word in words[2:]:
            if word.startswith("-"):
                assert word in options, " ".join(words)


def test_every_option_that_it_names_exists() -> None:
    root = typer.main.get_command(make_app())
    options = {
        name
        for command in root.commands.values()  # type: ignore[attr-defined]
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    others = {
        "--quick",
        "--save",
        "--report",
        "--version",
        "--help",
        "--strict",
        "--install-completion",
        "--again",
        "--limit",
        "--dry-run",
        "--only",
        "--pair",
        "--pictures",
    }  # of other programs
    for page in PAGES:
        for name in re.findall(r"`(--[a-z-]+)", page.read_text("utf-8")):
            assert name in options | others, f"{page.name}: {name}"


def test_what_the_reference_shows_exists() -> None:
    """The names after ``:::`` are found without mkdocstrings, which says so only when it builds."""
    names = [
        name
        for page in PAGES
        for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(names) > 30
    for name in names:
        assert pydoc.locate(name) is not None, name


def test_every_preset_is_described() -> None:
    text = (REPOSITORY / "docs" / "presets.md").read_text("utf-8")
    assert re.findall(r"^`([a-z-]+)`$", text, re.MULTILINE) == list(PRESETS)


def test_the_table_of_settings_is_the_settings_own() -> None:
    text = (REPOSITORY / "docs" / "settings.md").read_text("utf-8")
    assert text.endswith(f"\n\n{tables()}")  # python -m fastnst.settings.reference


def test_the_questions_are_fifteen() -> None:
    text = (REPOSITORY / "docs" / "faq.md").read_text("utf-8")
    assert [int(n) for n in re.findall(r"^## (\d+)\.", text, re.MULTILINE)] == list(range(1, 16))


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(REPOSITORY / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    assert "Neural style transfer" in (tmp_path / "index.html").read_text("utf-8")
    assert "conv1_1" in (tmp_path / "api" / "core" / "index.html").read_text("utf-8")
