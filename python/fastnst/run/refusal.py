"""What is said of a run that does not fit in memory: its size, and what would fit."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fastnst.errors import InvalidInput
from fastnst.run.memory import SMALLEST, Need, plans
from fastnst.run.pieces import cuts
from fastnst.settings.settings import LARGE
from fastnst.strips.budget import amount

FEWEST_PAIRS = 3  # curvature pairs that are proposed, at least
MOST_PAIRS = 20
SAFE = 0.9  # of the memory, which a size that is proposed may take


def refuse(
    need: Need, budget: int, scratch: Path | None, whole: str | None, limit: int | None = None
) -> InvalidInput:
    """The error that says that a run does not fit, and what would.

    Args:
        need: What the memory of the run depends on.
        budget: Bytes that it may take.
        scratch: The folder for a scratch file that it may have; None: none.
        whole: Why it cannot be computed in strips; None: it can, but does not fit.
        limit: Bytes that its process may take, if that is what is too little.
    """
    needed = least(need, scratch, whole)
    free = f"{amount(budget)} are free"
    if limit is not None:
        beside = " beside PyTorch" if need.device.type == "cpu" else ""
        free = f"{amount(budget)} of the {amount(limit)} allowed are left{beside}"
    free += "" if whole is None else f" ({whole})"
    if least(replace(need, style_pixels=0, further_styles=()), scratch, whole) <= budget:
        return InvalidInput(
            f"a style picture of {need.style_pixels / 1e6:.1f} megapixels when scaled needs about "
            f"{amount(needed)} of memory and {free}; "
            "use a smaller --style-size or --style-scale"
        )
    sides = range(SMALLEST, max(SMALLEST + 1, max(need.width, need.height)))
    ways = sizes_that_fit(
        need, sides, lambda side: least(need.at(side), scratch, whole) <= SAFE * budget
    )
    if need.settings.optimizer != "adam":
        asked = need.settings.pairs(need.pixels)
        counts = range(FEWEST_PAIRS, min(asked, MOST_PAIRS + 1))
        pairs = _most(counts, budget, lambda m: least(_with_pairs(need, m), scratch, whole))
        if pairs is not None:
            ways.append(f"--history-size {pairs}")
    if scratch is None and whole is None and least(need, Path(), whole) <= budget:
        ways.append("--scratch with a folder on a disk")
    smallest = amount(least(need.at(SMALLEST), scratch, whole))
    return InvalidInput(
        f"a {need.width}×{need.height} picture needs about {amount(needed)} of memory and {free}; "
        + (f"use {', or '.join(ways)}" if ways else f"the smallest takes {smallest}")
    )


def refuse_main_memory(need: Need, budget: int, scratch: Path | None) -> InvalidInput:
    """The error that says that what lies beside a GPU does not fit in main memory.

    Args:
        need: What the memory of the run depends on.
        budget: Bytes of main memory that it may take.
        scratch: The folder for a scratch file that it may have; None: none.
    """

    def takes(need: Need) -> int:
        return min(need.beside(plan) for plan in plans(need, scratch))

    sides = range(SMALLEST, max(SMALLEST + 1, max(need.width, need.height)))
    ways = sizes_that_fit(need, sides, lambda side: takes(need.at(side)) <= SAFE * budget)
    if scratch is None:
        ways.append("--scratch with a folder on a disk")
    return InvalidInput(
        f"a {need.width}×{need.height} picture needs about {amount(takes(need))} of main memory "
        f"beside the GPU's and {amount(budget)} are free"
        + (f"; use {', or '.join(ways)}" if ways else "")
    )


def least(need: Need, scratch: Path | None, whole: str | None) -> int:
    """Bytes that a run takes where it is made to take as little as it can.

    Args:
        need: What the memory of the run depends on.
        scratch: The folder for a scratch file that it may have; None: none.
        whole: Why it cannot be computed in strips; None: it can.
    """
    if whole is not None:
        return need.whole()
    spacing = cuts(need.settings, need.device)
    rows, columns = (spacing.largest(spacing.smallest, n) for n in (need.height, need.width))
    pieces = [need.in_pieces(plan, rows * columns) for plan in plans(need, scratch)]
    return min(need.whole(), *pieces)


def sizes_that_fit(need: Need, sides: Sequence[int], fits: Callable[[int], bool]) -> list[str]:
    """The largest size that fits, in words; nothing where none does.

    A picture of more than ``LARGE`` pixels has fewer curvature pairs, and may fit where a smaller
    one does not. On either side of that, whatever is smaller than what fits does too.

    Args:
        need: What the memory of the run depends on.
        sides: Long sides of the pictures to choose from, ascending.
        fits: Whether a picture with this long side fits.
    """
    large = bisect_right(sides, LARGE, key=lambda side: need.at(side).pixels)
    all_small = not large or fits(sides[large - 1])
    for some, also_smaller in ((sides[large:], all_small), (sides[:large], True)):
        count = bisect_left(some, True, key=lambda side: not fits(side))
        if count:
            return [f"--size {some[count - 1]}{' or less' if also_smaller else ''}"]
    return []


def _with_pairs(need: Need, pairs: int) -> Need:
    return replace(need, settings=replace(need.settings, history_size=pairs))


def _most(candidates: Sequence[int], budget: float, takes: Callable[[int], int]) -> int | None:
    """The largest of ascending numbers that takes no more than a budget; None: none does."""
    place = bisect_right(candidates, budget, key=takes)
    return candidates[place - 1] if place else None
