"""Saving what took long to make, even where somebody else's file took its name meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastnst import files
from fastnst.errors import InvalidInput, OutputFailed
from fastnst.run.result import Result


def save_or_rescue(result: Result, path: Path, bits: int = 8, pyramid: bool = False) -> None:
    """Save a result; if its name was taken by another file during the run, save it beside that.

    Raises:
        OutputFailed: saying where the picture is instead, or that it could not be written anywhere.
        InvalidInput: for a format that does not hold the picture.
    """
    rescue(path, lambda name: result.save(name, bits, pyramid=pyramid))


def rescue(path: Path, save: Callable[[Path], object]) -> None:
    """Save a picture; if its name was taken by another file meanwhile, save it beside that.

    Args:
        path: Where it is to go.
        save: Saves it to a path.

    Raises:
        OutputFailed: saying where the picture is instead, or that it could not be written anywhere.
        InvalidInput: for a format that does not hold the picture.
    """
    try:
        save(path)
    except InvalidInput as error:
        kept = files.free_name(path)
        save(kept)
        raise OutputFailed(f"{error}; it was saved as {kept} instead") from error
