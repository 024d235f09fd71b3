"""Files of this repository that the documents name are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers import REPOSITORY

PAGES = [
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *(REPOSITORY / name / "README.md" for name in ("csrc", "benchmarks")),
]
FOLDERS = ("python", "csrc", "tests", "benchmarks", "tools", "docs", "examples")
SOURCE = {".py", ".pyi", ".cpp", ".h", ".cu", ".cuh", ".sh"}
ENDINGS = "pyi?|cpp|h|cuh?|sh|md|toml|yml|in"
PATH = re.compile(rf"(?<![\w./-])[\w.-]*(?:/[\w.-]+)*\.(?:{ENDINGS})(?![\w/])")
THEIRS = {  # files of users and of other systems
    "neural_style.py",
}
pytestmark = pytest.mark.skipif(not (REPOSITORY / "mkdocs.yml").is_file(), reason="no checkout")


def named(text: str) -> list[str]:
    """The files that code in a page names: in spans, in commands and in listings."""
    spans = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^ {4}(.*)$", text, re.MULTILINE)
    return [name for span in spans for name in PATH.findall(span)]


def is_there(page: Path, name: str) -> bool:
    """Whether a file has this name or this end of its path; ``NAME`` stands for a file to come."""
    path = Path(name)
    if any((home / name).exists() for home in (REPOSITORY, page.parent)):
        return True
    folders = [REPOSITORY / f for f in FOLDERS]
    if "NAME" in path.name:
        ends = {path.parent.parts}
        return any(
            found.is_dir() and found.parts[-len(path.parent.parts) :] in ends
            for folder in folders
            for found in (folder, *folder.rglob("*"))
        )
    if "/" not in name and path.suffix not in SOURCE:  # such as a settings.toml of the reader's
        return True
    return any(
        found.parts[-len(path.parts) :] == path.parts
        for folder in folders
        for found in folder.rglob(path.name)
    )


def prose(text: str) -> list[str]:
    """The lines that can be broken: not those of tables, code, links or without a space."""
    text = re.sub(r"```.*?```|<!-- tables -->.*<!-- /tables -->", "", text, flags=re.DOTALL)
    lines = [line for line in text.split("\n") if not line.startswith(("|", "    ", "!", ":::"))]
    return [line for line in lines if " " in line.strip()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_its_lines_have_at_most_100_characters(page: Path) -> None:
    long = [line for line in prose(page.read_text("utf-8")) if len(line) > 100]
    assert not long


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_the_files_that_it_names_are_there(page: Path) -> None:
    missing = {name for name in named(page.read_text("utf-8")) if not is_there(page, name)}
    assert missing <= THEIRS
