"""What is made once for all processes that run tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def made_once(path: Path, make: Callable[[Path], object]) -> Path:
    """A file that the first process to come here makes, while the others wait for it.

    Args:
        path: The file; its folder exists.
        make: Makes it under the name that it is given, which has the same ending.

    Returns:
        ``path``.
    """
    with FileLock(f"{path}.lock"):
        if not path.exists():
            part = path.with_name(f"part-{path.name}")
            make(part)
            part.replace(path)
    return path
