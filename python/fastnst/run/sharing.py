"""How several ranks share a run: who may, where the picture is cut, and what each of them needs.

The cuts follow from the picture's size alone, not from memory and not from the number of ranks: so
any number of ranks makes the same picture, bit for bit.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fastnst.devices import choose_device
from fastnst.errors import InvalidInput
from fastnst.ranks.protocol import Alone, Communication
from fastnst.ranks.share import Share, too_many_reason
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
        grid = fixed_grid(height, width, cuts(settings, device))
        if reason := too_many_reason(grid, ranks):
            raise InvalidInput(reason)


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
    spacing = cuts(need.settings, need.device)
    grid = fixed_grid(need.height, need.width, spacing)
    speech = who_shares(grid, communication)
    share = Share.of(grid, speech)
    computed = grid.largest[0] * grid.largest[1]
    mine = replace(need, height=share.height)
    # Every rank scales all pictures before it takes its own rows of them.
    rest = 2 * PICTURE * (need.pixels - mine.pixels)
    own = sum(tile.computed_pixels for band in share.bands for tile in share.tiles(band))
    ways = [(Plan(keeps_features=True), own), *((plan, computed) for plan in plans(mine, scratch))]
    takes = [
        mine.in_pieces(plan, pixels) + (0 if in_scratch(plan, need.pixels) else rest)
        for plan, pixels in ways
    ]
    for (plan, _), bytes_ in zip(ways, takes, strict=True):
        if budget is None or bytes_ <= budget:
            return replace(plan, grid=grid)
    assert budget is not None
    raise InvalidInput(
        f"rank {speech.rank} of {speech.ranks} needs about {amount(min(takes))} of memory for "
        f"its part of a {need.width}×{need.height} picture and {amount(budget)} are free: use "
        "more machines, --scratch with a folder on a disk, or a smaller --size"
    )
