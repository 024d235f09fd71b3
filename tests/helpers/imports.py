"""What a Python file imports, read from its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path


def modules(folder: Path) -> dict[str, Path]:
    """Every module at or below a package's folder, by its dotted name."""
    found = {}
    for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.pyi")]):
        parts = path.relative_to(folder.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path) -> Iterator[str]:
    """The dotted names in all imports of a file, also those for types only and within functions.

    ``from a import b`` gives ``a.b``, whether ``b`` is a module or a name in ``a``.
    """
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = [*_package(path, node.level), *([node.module] if node.module else [])]
            yield from (".".join([*source, name.name]) for name in node.names)


def _package(path: Path, level: int) -> tuple[str, ...]:
    """The package that so many leading dots stand for in a file; ``()`` for none."""
    if level == 0:
        return ()
    folder, root = path.parents[level - 1], path.parent
    while (root / "__init__.py").is_file():
        root = root.parent
    return folder.relative_to(root).parts


def graph(folder: Path) -> dict[str, set[str]]:
    """The modules of a package that each of its modules imports."""
    known = modules(folder)
    found = {}
    for name, path in known.items():
        targets = {t for t in imported(path) if t.split(".")[0] == folder.name}
        found[name] = {t if t in known else t.rpartition(".")[0] for t in targets} & known.keys()
    return found
