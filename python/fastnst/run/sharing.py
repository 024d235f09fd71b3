"""How several ranks share a run: who may, where the picture is cut, and what each of them needs.

With engine ``native`` the ranks exchange rows of features, where each has memory for those of its
part of the picture. Otherwise each band is computed with its halo, like the pieces of a picture
that does not fit. Where the bands lie follows from the picture's size alone, not from the number of
ranks: so any number of ranks that computes them in the same way makes the same picture, bit for
bit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from fastnst.devices import choose_device, gpus, turns
from fastnst.engines.create import arithmetic, targets_at_a_time
from fastnst.errors import InvalidInput
from fastnst.ranks.protocol import Alone, Communication
from fastnst.ranks.share import Share, too_many_reason
from fastnst.run.footprint import counts
from fastnst.run.memory import PICTURE, SMALLEST, Need, in_scratch, plans
from fastnst.run.pieces import Plan, cuts
from fastnst.run.refusal import sizes_that_fit
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
MOST_ON_GPU = 3_000_000  # the same on a GPU: 5 to 11 GB
MOST_BANDS = 256  # about, of bands that exchange rows: the finer, the more evenly they are shared


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
    if reason := unavailable_reason(settings):
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
    most = MOST_PIXELS if device.type == "cpu" else MOST_ON_GPU
    fixed = fixed_grid(height, width, spacing, most)
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


def fixed_grid(height: int, width: int, spacing: Spacing, most_pixels: int = MOST_PIXELS) -> Grid:
    """Where a picture is cut that ranks share: a function of its size and of the network alone.

    Args:
        height: Rows of the picture.
        width: Columns of the picture.
        spacing: Alignment and halo.
        most_pixels: That are computed for a piece.
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
    if grid.largest[0] * width > most_pixels:
        return choose_grid(height, width, 1, most_pixels, spacing)
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
    need: Need,
    communication: Communication,
    budget: int | None,
    scratch: Path | None,
    main: int | None = None,
) -> Plan:
    """How a run that ranks share is made to fit.

    Args:
        need: What the memory of the whole run depends on.
        communication: How this rank speaks to the others.
        budget: Bytes of its device that this rank may take; None: nobody says.
        scratch: A folder for a scratch file; None: there is none.
        main: Bytes of main memory that it may take beside a GPU's; None: nobody says.

    Raises:
        InvalidInput: if what this rank has to hold does not fit, or ranks compute differently.
    """
    _check_alike(need, communication)
    budgets = [_least(bytes_, communication) for bytes_ in (budget, main)]
    found = _fitting(need, communication.ranks, budgets, scratch)
    if isinstance(found, Plan):
        return found
    where = "memory" if need.device.type == "cpu" else f"memory on {need.device}"
    for free, bytes_, kind in zip(budgets, found, (where, "main memory"), strict=True):
        if free is not None and bytes_ > free:
            ways = _ways_out(need, communication, budgets, scratch)
            raise InvalidInput(
                f"a rank of {communication.ranks} needs about {amount(bytes_)} of {kind} for its "
                f"part of a {need.width}×{need.height} picture and may take {amount(free)}"
                + (f": use {', or '.join(ways)}" if ways else "")
            )
    raise AssertionError  # the way that takes least fits


def _fitting(
    need: Need, ranks: int, budgets: Sequence[int | None], scratch: Path | None
) -> Plan | list[int]:
    """The quickest way for so many ranks that fits; or what the least of them takes, if none does.

    Args:
        need: What the memory of the whole run depends on.
        ranks: How many there are.
        budgets: Bytes of its device, and of main memory beside it, that a rank may take; None:
            nobody says.
        scratch: A folder for a scratch file; None: there is none.
    """
    least: list[int] | None = None
    for grid in possible_grids(need.height, need.width, need.settings, need.device):
        for plan, *takes in _ways(need, grid, ranks, scratch):
            if all(b is None or t <= b for b, t in zip(budgets, takes, strict=True)):
                return replace(plan, grid=grid)
            least = takes if least is None else min(least, takes)
    assert least is not None
    return least


def _ways_out(
    need: Need,
    communication: Communication,
    budgets: Sequence[int | None],
    scratch: Path | None,
) -> list[str]:
    """What would fit where the parts of a picture do not: more machines, a file, a smaller one."""

    def bands(size: int) -> int:
        at = need.at(size)
        return len(possible_grids(at.height, at.width, need.settings, need.device)[0].rows)

    def fits(size: int, ranks: int) -> bool:
        return isinstance(_fitting(need.at(size), ranks, budgets, scratch), Plan)

    ranks, here, side = communication.ranks, communication.local_ranks, max(need.width, need.height)
    machines = range(ranks // here + 1, bands(side) // here + 1)
    more = bisect_left(machines, True, key=lambda n: fits(side, n * here))
    smallest = bisect_left(range(side), True, lo=SMALLEST, key=lambda size: bands(size) >= ranks)
    each = f"with {here} rank{'s' if here > 1 else ''} each"
    ways = [f"{machines[more]} machines or more {each}"] if more < len(machines) else []
    ways += ["--scratch with a folder on a disk"] if scratch is None else []
    return ways + sizes_that_fit(need, range(smallest, side), lambda size: fits(size, ranks))


def own_device(device: torch.device, communication: Communication) -> torch.device:
    """The device of this rank: ranks on one machine take its GPUs in turn.

    Args:
        device: What was chosen; a GPU with a number is taken by all of them.
        communication: How this rank speaks to the others.
    """
    if device.type != "cuda" or device.index is not None or communication.local_ranks == 1:
        return device
    local = communication.rank % communication.local_ranks
    return torch.device("cuda", local % gpus(device))


def ranks_beside(need: Need, communication: Communication) -> int:
    """How many ranks of this machine, with this one, compute on this rank's device."""
    numbered = ":" in need.settings.device  # all ranks have this GPU
    device = need.device if numbered else torch.device(need.device.type)
    return turns(communication.local_ranks, device)


def _check_alike(need: Need, communication: Communication) -> None:
    """Make sure that all ranks cut the picture in one way; all of them call it together.

    Raises:
        InvalidInput: on every rank, naming one that computes with something else than rank 0.
    """
    engine = "native" if counts(need.settings, need.device) else need.settings.engine
    own = f"engine {engine} on a {'CPU' if need.device.type == 'cpu' else 'GPU'}"
    own += f", {arithmetic(need.settings, need.device)}"
    found = communication.gather_objects(own)
    others = [] if found is None else [x for x in enumerate(found) if x[1] != found[0]]
    other = communication.broadcast((*others[0], found[0]) if found and others else None)
    if other is not None:
        rank, its, first = other
        raise InvalidInput(
            f"rank {rank} computes with {its} and rank 0 with {first}: "
            "choose --device, --engine and --precision so that all compute alike"
        )


def _least(budget: int | None, communication: Communication) -> int | None:
    """The least of the memory that ranks may take: all of them choose the same way."""
    nobody_says = torch.iinfo(torch.int64).max
    own = torch.tensor([nobody_says if budget is None else budget], device="cpu")
    least = min(int(found) for found in communication.collect(own))
    return None if least == nobody_says else least


def _ways(
    need: Need, grid: Grid, ranks: int, scratch: Path | None
) -> Iterator[tuple[Plan, int, int]]:
    """The ways of computing a picture's bands, the quickest first, with what a rank takes at most.

    That is in bytes of its device, and of main memory beside that of a GPU.

    Args:
        need: What the memory of the whole run depends on.
        grid: Where the picture is cut.
        ranks: How many there are; where it has fewer bands, each computes the whole of it.
        scratch: A folder for a scratch file; None: there is none.
    """
    ranks = ranks if too_many_reason(grid, ranks) is None else 1
    shares = [Share.part(grid, rank, ranks) for rank in range(ranks)]
    kept = [Plan(keeps_features=True)]
    if grid.exchanges:
        others = [] if scratch is None else [Plan(keeps_features=True, scratch=scratch)]
    else:
        others = plans(need, scratch)
    for plan in (*kept, *others):
        takes, beside = [], []
        for share in shares:
            mine = replace(need, height=share.height)
            pieces = [piece.computed_pixels for piece in share.pieces()]
            pixels = sum(pieces) if plan.keeps_features else grid.largest[0] * grid.largest[1]
            # Every rank scales all pictures before it takes its own rows of them.
            rest = 0 if in_scratch(plan, need.pixels) else 2 * PICTURE * (need.pixels - mine.pixels)
            at_a_time = targets_at_a_time(grid) if grid.exchanges else None
            on_cpu = need.device.type == "cpu"
            if on_cpu:
                takes.append(mine.in_pieces(plan, pixels, at_a_time) + rest)
                beside.append(0)
            elif grid.is_whole:  # it lies on the GPU with all that grows with it
                takes.append(need.whole())
                beside.append(0)
            else:
                takes.append(mine.in_pieces(plan, pixels, at_a_time))
                beside.append(mine.beside(plan) + rest)
        yield plan, max(takes), max(beside)
