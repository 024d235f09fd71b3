"""How large the pieces of a picture may be for the memory that there is."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from fastnst.errors import InvalidInput
from fastnst.strips.geometry import Grid, Spacing

TILES_PAY = 0.9  # of the pixels that bands compute, below which tiles are taken in their place

_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


def amount(count: float) -> str:
    """Bytes as a person would say it: ``37 MiB``, ``1.4 GiB``."""
    if count < 2**30:
        return f"{max(1, round(count / 2**20))} MiB"
    return f"{count / 2**30:.1f} GiB"


def read_bytes(text: str, label: str = "memory") -> int:
    """A number of bytes as people write it: ``8GB``, ``512 MB``, ``1.5GiB``, ``8000000000``.

    Args:
        text: The text. Without ``i`` a unit is a power of 1000, with it a power of 1024.
        label: What to call the number in messages.

    Raises:
        InvalidInput: if it is not a positive number of bytes.
    """
    found = _SIZE.fullmatch(text)
    if found is None or (found[3] and not found[2]):
        raise InvalidInput(f"{label} is {text!r}: expected a size such as 8GB or 512MB")
    power = "kmgt".find(found[2].lower()) + 1 if found[2] else 0
    size = min(float(found[1]) * (1024 if found[3] else 1000) ** power, float(sys.maxsize))
    if size < 1:
        raise InvalidInput(f"{label} is {text!r}: expected more than 0 bytes")
    return int(size)


def band_rows(
    height: int, bytes_per_row: float, budget: float, spacing: Spacing, fixed: float = 0
) -> int | None:
    """The most rows that bands may own, so that computing any of them fits.

    Args:
        height: Rows of the picture.
        bytes_per_row: What an engine takes for each computed row of a piece.
        budget: Bytes that computing a piece may take.
        spacing: Alignment and halo.
        fixed: Bytes that an engine takes whatever the size of a piece.

    Returns:
        ``height`` if the picture fits in one piece; otherwise a multiple of the alignment; None if
        the smallest bands do not fit.
    """
    return _fitting(height, lambda rows: fixed + bytes_per_row * rows <= budget, spacing)


def choose_grid(
    height: int,
    width: int,
    bytes_per_pixel: float,
    budget: float,
    spacing: Spacing,
    fixed: float = 0,
) -> Grid:
    """Cut a picture so that each piece fits: not at all, in bands, or else in tiles.

    Args:
        height: Rows of the picture.
        width: Columns of the picture.
        bytes_per_pixel: What an engine takes for each computed pixel of a piece.
        budget: Bytes that computing a piece may take: what is free, or what the user allows.
        spacing: Alignment and halo.
        fixed: Bytes that an engine takes whatever the size of a piece.

    Returns:
        One piece if the picture fits; else the tallest bands, unless tiles compute a tenth fewer
        pixels; else, of all grids of tiles that fit, the one that computes the fewest.

    Raises:
        InvalidInput: if the smallest tile does not fit, with what it takes.
    """
    rows = band_rows(height, bytes_per_pixel * width, budget, spacing, fixed)
    bands = None if rows is None else Grid.cut(height, width, spacing, rows)
    if bands is not None and bands.is_whole:
        return bands
    best: Grid | None = None
    for columns in range(spacing.smallest, width, spacing.alignment):
        widest = spacing.largest(columns, width)
        rows = band_rows(height, bytes_per_pixel * widest, budget, spacing, fixed)
        if rows is None:
            break  # wider ones do not fit either
        grid = Grid.cut(height, width, spacing, rows, columns)
        if best is None or grid.computed_pixels < best.computed_pixels:
            best = grid
    if bands is not None:
        pays = best is not None and best.computed_pixels < TILES_PAY * bands.computed_pixels
        return best if pays and best is not None else bands
    if best is None:
        least = fixed + bytes_per_pixel * _least(height, spacing) * _least(width, spacing)
        raise InvalidInput(
            f"{budget / 1e9:.2f} GB of memory are too few: the smallest piece of a picture of "
            f"{width}×{height} takes {least / 1e9:.2f} GB"
        )
    return best


def _fitting(length: int, fits: Callable[[int], bool], spacing: Spacing) -> int | None:
    """The largest size of pieces along an axis of which the largest fits, computed pixels given."""
    if fits(length):
        return length
    best = None
    # What the largest piece computes grows with the size, but for where a rest joins the last one.
    for size in range(spacing.smallest, length, spacing.alignment):
        if fits(spacing.largest(size, length)):
            best = size
        elif not fits(size):
            break
    return best


def _least(length: int, spacing: Spacing) -> int:
    """The fewest pixels that the largest piece along an axis computes, over all allowed cuts."""
    sizes = [length, *range(spacing.smallest, length, spacing.alignment)]
    return min(spacing.largest(size, length) for size in sizes)
