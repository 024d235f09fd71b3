"""How several ranks share a run: who may, where the picture is cut, and what each of them needs.

With engine ``native`` the ranks exchange rows of features, where each has memory for those of its
part of the picture. Otherwise each band is computed with its halo, like the pieces of a picture
that does not fit. Where the bands lie follows from the picture's size alone, not from the number of
ranks: so any number of ranks that computes them in the same way makes the same picture, bit for
bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from fastnst.devices import choose_device
from fastnst.engines.create import targets_at_a_time
from fastnst.errors import InvalidInput
from fastnst.ranks.protocol import Alone, Communication
from fastnst.ranks.share import Share, too_many_reason
from fastnst.run.footprint import counts
from fastnst.run.memory import PICTURE, Need, in_scratch, plans
from fastnst.run.pieces import Plan, cuts
from fastnst.run.shareable import refuse, unavailable_reason
from fastnst.settings.settings import Settings
from fastnst.strips.budget import amount, choose_grid
from fastnst.strips.geometry import Grid, Spacing

# What a picture is cut into: four bands or more if each has so many times the rows of its halo,
# which are computed on either side of it too; else two, if it is high enough.
BANDS, FEWEST_BANDS = 4, 2
HALOS = 2
MOST_ROWS = 960  # of a band; a halo of 96 rows on either side is a fifth of them
MOST_PIXELS = 16_000_000  # that are computed for a piece: 10 GB in float32
MOST_BANDS = 64  # about, of bands that exchange rows


def check_before_start(settings: Settings, ranks: int, size: tuple[int, int] | None) -> None:
    """Make sure that ranks which are not started yet can share a picture, as far as is known.

    Args:
        settings: The settings of the run.
        ranks: How many there will be at least.
        size: Width and height of the result, or more than they can be; None: not known.

    Raises:
        InvalidInput: if not, with the reason or with how many ranks could.
        BackendUnavailable: if the device that was asked for cannot be used.
    """
    device = choose_device(settings.device)
    if reason := unavailable_reason(settings, device.type):
        raise refuse(ranks, reason)
    if size is not None:
        width, height = size
        grids = possible_grids(height, width, settings, device)
        if reason := too_many_reason(grids[0], ranks):
            raise InvalidInput(reason)


def possible_grids(
    height: int, width: int, settings: Settings, device: torch.device
) -> tuple[Grid, ...]:
    """Where a picture may be cut that ranks share, the quickest way first."""
    spacing = cuts(settings, device)
    fixed = fixed_grid(height, width, spacing)
    if not counts(settings, device):
        return (fixed,)
    return exchanging_grid(height, width, spacing), fixed


def exchanging_grid(height: int, width: int, spacing: Spacing) -> Grid:
    """Where a picture is cut whose bands exchange rows of features: in many bands, of whole tiles.

    Args:
        height: Rows of the picture.
        width: Columns of the picture.
        spacing: Alignment and halo of pieces that do not exchange rows.
    """
    step = spacing.alignment
    return Grid.cut(height, width, spacing.exchanging(), -(-height // (MOST_BANDS * step)) * step)


def fixed_grid(height: int, width: int, spacing: Spacing) -> Grid:
    """Where a picture is cut that ranks share: a function of its size and of the network alone.

    Args:
        height: Rows of the picture.
        width: Columns of the picture.
        spacing: Alignment and halo.
    """
    step, high = spacing.alignment, height >= BANDS * HALOS * spacing.halo
    bands, most = BANDS if high else FEWEST_BANDS, max(1, MOST_ROWS // spacing.alignment)
    down = height // (bands * step)
    sizes = [max(spacing.smallest, min(n, most) * step) for n in (down, down + 1)]
    # Of the two sizes the one whose largest piece is smaller; but a rest is no band of its own.
    grids = [Grid.cut(height, width, spacing, rows) for rows in sizes]
    first, second = grids
    rests = len(first.rows) > max(bands, len(second.rows))
    grid = second if rests or second.largest < first.largest else first
    if grid.largest[0] * width > MOST_PIXELS:
        return choose_grid(height, width, 1, MOST_PIXELS, spacing)
    return grid


def who_shares(grid: Grid | None, communication: Communication) -> Communication:
    """How a rank speaks at a scale: to nobody, where the picture has fewer bands than ranks.

    Every rank then computes the whole of it, which takes no longer than sharing it badly.
    """
    bands = 1 if grid is None else len(grid.rows)
    return communication if communication.ranks <= bands else Alone(joined=True)


def check_shared(plan: Plan, communication: Communication) -> None:
    """Make sure that a result can be shared by all ranks.

    Raises:
        InvalidInput: if there are too many of them, with how many could.
    """
    if communication.ranks == 1:
        return
    if plan.grid is None:
        raise InvalidInput(
            "the checkpoint is of a picture in one piece: go on with it without --ranks"
        )
    if reason := too_many_reason(plan.grid, communication.ranks):
        raise InvalidInput(reason)


def make_shared_plan(
    need: Need, communication: Communication, budget: int | None, scratch: Path | None
) -> Plan:
    """How a run that ranks share is made to fit.

    Args:
        need: What the memory of the whole run depends on.
        communication: How this rank speaks to the others.
        budget: Bytes that this rank may take; None: nobody says.
        scratch: A folder for a scratch file; None: there is none.

    Raises:
        InvalidInput: if what this rank has to hold does not fit.
    """
    budget = _least(budget, communication)
    grids = possible_grids(need.height, need.width, need.settings, need.device)
    least: int | None = None  # that any way takes
    for grid in grids:
        for plan, bytes_ in _ways(need, grid, communication, scratch):
            if budget is None or bytes_ <= budget:
                return replace(plan, grid=grid)
            least = bytes_ if least is None else min(least, bytes_)
    assert budget is not None
    assert least is not None
    raise InvalidInput(
        f"a rank of {communication.ranks} needs about {amount(least)} of memory for its part of a "
        f"{need.width}×{need.height} picture and {amount(budget)} are free: use more machines, "
        "--scratch with a folder on a disk, or a smaller --size"
    )


def _least(budget: int | None, communication: Communication) -> int | None:
    """The least of the memory that ranks may take: all of them choose the same way."""
    nobody_says = torch.iinfo(torch.int64).max
    own = torch.tensor([nobody_says if budget is None else budget], device="cpu")
    least = min(int(found) for found in communication.collect(own))
    return None if least == nobody_says else least


def _ways(
    need: Need, grid: Grid, communication: Communication, scratch: Path | None
) -> Iterator[tuple[Plan, int]]:
    """The ways of computing a picture's bands, the quickest first, with what a rank takes at most.

    Args:
        need: What the memory of the whole run depends on.
        grid: Where the picture is cut.
        communication: How this rank speaks to the others.
        scratch: A folder for a scratch file; None: there is none.
    """
    ranks = who_shares(grid, communication).ranks
    shares = [Share.part(grid, rank, ranks) for rank in range(ranks)]
    kept = [Plan(keeps_features=True)]
    if grid.exchanges:
        others = [] if scratch is None else [Plan(keeps_features=True, scratch=scratch)]
    else:
        others = plans(need, scratch)
    for plan in (*kept, *others):
        takes = []
        for share in shares:
            mine = replace(need, height=share.height)
            pieces = [piece.computed_pixels for piece in share.pieces()]
            pixels = sum(pieces) if plan.keeps_features else grid.largest[0] * grid.largest[1]
            # Every rank scales all pictures before it takes its own rows of them.
            rest = 0 if in_scratch(plan, need.pixels) else 2 * PICTURE * (need.pixels - mine.pixels)
            at_a_time = targets_at_a_time(grid) if grid.exchanges else None
            takes.append(mine.in_pieces(plan, pixels, at_a_time) + rest)
        yield plan, max(takes)
