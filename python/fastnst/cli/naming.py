"""Names for results that were given none: built from the pictures, and taken by no other file.

A name is claimed until the command ends, so that two commands that run at the same time do not
choose the same.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from pathlib import Path

from fastnst import samples
from fastnst.cli.until_end import UNTIL_END
from fastnst.ranks.launch import writes

_LONGEST = 200  # bytes of a name without its suffix; most file systems take 255
_UNFIT = re.compile(r'[\0-\x1f<>:"/\\|?*]')  # not in file names, on one system or another


def target(output: Path | None, *pictures: str) -> Path:
    """Where a result goes: the file named, a new name in the folder named, or a new name here.

    Args:
        output: A file or folder; None: none was named.
        pictures: As for ``new_name``.
    """
    if output is None or os.path.isdir(output):  # noqa: PTH112 - False for what no system takes
        return new_name(*pictures, folder=output)
    return output


def new_name(*pictures: str, folder: Path | None = None) -> Path:
    """``photo-painting.png``, or ``photo-painting-2.png`` and so on if that is there already.

    Args:
        pictures: Paths, ``sample:NAME`` or words.
        folder: Where the file is to be; None is the working directory.
    """
    stems = (_UNFIT.sub("_", stem) or "picture" for stem in map(_stem, pictures))
    stem = _shorten("-".join(stems))
    root = folder or Path()
    for number in itertools.count(1):
        path = root / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
        if not os.path.lexists(path) and _claim(path):
            return path
    raise AssertionError("the numbers never end")


def _claim(path: Path) -> bool:
    """Claim a name that no file has until the command ends; False if another command has it."""
    from fastnst.claims import claim

    until_end = UNTIL_END.get()
    if until_end is None or not writes():
        return True
    with contextlib.ExitStack() as held:
        if not held.enter_context(claim(path)) or os.path.lexists(path):  # written meanwhile
            return False
        until_end.push(held.pop_all())
    return True


def _stem(picture: str) -> str:
    if picture.startswith(samples.PREFIX):
        return picture.removeprefix(samples.PREFIX)
    return "picture" if picture == "-" else Path(picture).stem


def _shorten(stem: str) -> str:
    while len(os.fsencode(stem)) > _LONGEST:
        stem = stem[:-1]
    return stem
