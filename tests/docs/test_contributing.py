"""CONTRIBUTING.md's map is that of the folders and of the table of who may import whom."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers import REPOSITORY
from helpers.rooms import ROOMS

PAGE = REPOSITORY / "CONTRIBUTING.md"
PACKAGE = REPOSITORY / "python" / "fastnst"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="not in a checkout")


def table(heading: str) -> list[list[str]]:
    """The rows of the table with a heading, without the heading and the rule."""
    lines = PAGE.read_text("utf-8").split(f"\n| {heading} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line[1:-1].split(" | ")] for line in lines.split("\n")[2:]]


def folders(root: Path, depth: int) -> set[str]:
    """Folders with files in them, down to a depth, but for what tools leave behind."""
    found = set()
    for path in root.rglob("*"):
        parts = path.relative_to(root).parts[:-1]
        if path.is_file() and parts and path.suffix != ".pyc":
            found |= {"/".join(parts[:n]) for n in range(1, min(depth, len(parts)) + 1)}
    return found


def test_the_rooms_are_those_of_the_table_of_rules() -> None:
    rows = table("room")
    assert [name.strip("`").rstrip("/") for name, _, _ in rows] == list(ROOMS)
    for name, held, imports in rows:
        assert held, name
        assert imports == ROOMS[name.strip("`").rstrip("/")], name
        assert (PACKAGE / name.strip("`")).is_dir() == name.endswith("/`"), name


def test_every_folder_of_the_package_is_named() -> None:
    text = PAGE.read_text("utf-8")
    for folder in folders(PACKAGE, 3):
        assert f"`{folder}/`" in text, folder


def test_every_other_folder_is_named_and_there() -> None:
    named = {row[0].strip("`").rstrip("/") for row in table("folder")}
    for name in named:
        assert (REPOSITORY / name).is_dir(), name
    ignored = {
        line.strip("/\n") for line in (REPOSITORY / ".gitignore").read_text().split() if "/" in line
    }
    top = {path.name for path in REPOSITORY.iterdir() if path.is_dir()} - ignored - {".git"}
    assert top - {"python", "shared"} <= named
    for parent in ("csrc", "benchmarks"):
        below = {name for name in folders(REPOSITORY / parent, 2) if "__pycache__" not in name}
        assert {f"{parent}/{name}" for name in below} <= named


def test_the_files_to_change_are_there() -> None:
    rows = table("change")
    assert len(rows) == 10
    for change, text in rows:
        files = re.findall(r"`([^`]+)`", text)
        assert 1 <= len(files) <= 2, change
        for name in files:
            path = REPOSITORY / name
            new = path.stem == "NAME"
            assert path.parent.is_dir() if new else path.is_file(), f"{change}: {name}"
