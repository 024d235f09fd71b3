"""How a run is made to fit in the memory that there is."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from pathlib import Path

import torch

from fastnst.errors import InvalidInput
from fastnst.ranks.communication import current
from fastnst.run import available, sharing
from fastnst.run.memory import CPU, Need, plans
from fastnst.run.pieces import WHOLE, Plan, cuts
from fastnst.run.refusal import refuse, refuse_main_memory
from fastnst.run.shareable import no_pieces_reason, unavailable_reason
from fastnst.run.shareable import refuse as refuse_ranks
from fastnst.strips.budget import choose_grid
from fastnst.strips.geometry import Grid

SHARE = 0.9  # of the memory that there is, which a run may take: estimates are true to 15 %


def make_plan(need: Need, limit: int | None = None, scratch: Path | None = None) -> Plan:
    """How a run is made to fit: whole; in pieces; with a scratch file; with less kept.

    In pieces, all that grows with the picture lies in main memory, and pieces alone go to a GPU.
    The larger the pieces, the less is computed twice. A scratch file is used only by what does not
    fit in memory; and content targets are computed anew for each piece, which takes two thirds
    longer, only where there is none.

    Args:
        need: What the memory of the run depends on.
        limit: Bytes of the device that the run may take; None: what is free.
        scratch: A folder for a scratch file; None: there is none.

    Where several ranks share the run, their picture is cut by its size alone (``sharing.py``).

    Raises:
        InvalidInput: if it does not fit, with what would; if ranks cannot share it.
    """
    budget = budget_of(need.device, limit)
    speech = current()
    if speech.joined:
        why = unavailable_reason(need.settings)
        if why is None:
            each = budget
            if budget is not None and limit is None:
                each = budget // sharing.ranks_beside(need, speech)
            main = _main_memory(need.device)
            main = None if main is None else main // speech.local_ranks
            return sharing.make_shared_plan(need, speech, each, scratch, main)
        if speech.ranks > 1:
            raise refuse_ranks(speech.ranks, why)
    if budget is None or need.whole() <= budget:
        return WHOLE
    reason = no_pieces_reason(need.settings)
    main = _main_memory(need.device)
    short = False  # of main memory, with pieces that fit on a GPU
    for plan in [] if reason is not None else plans(need, scratch):
        grid = grid_within(need, plan, budget)
        if grid is not None and (main is None or need.beside(plan) <= main):
            return replace(plan, grid=grid)
        short |= grid is not None
    if short and main is not None:
        raise refuse_main_memory(need, main, scratch)
    allowed = None if limit is None else int(SHARE * available.left_of(limit, need.device))
    raise refuse(need, budget, scratch, reason, limit if budget == allowed else None)


def budget_of(device: torch.device, limit: int | None) -> int | None:
    """Bytes that a run may take; None: nobody says."""
    most = None if limit is None else available.left_of(limit, device)
    known = [number for number in (available.available(device), most) if number is not None]
    return int(SHARE * min(known)) if known else None


def _main_memory(device: torch.device) -> int | None:
    """Bytes of main memory that a run on a GPU may take beside the GPU's; None: nobody says."""
    return None if device.type == "cpu" else budget_of(CPU, None)


def grid_within(need: Need, plan: Plan, budget: int) -> Grid | None:
    """How to cut the picture; None: it does not fit so."""
    computed = range(need.pixels)
    most = bisect_right(computed, budget, key=lambda pixels: need.in_pieces(plan, pixels))
    try:
        spacing = cuts(need.settings, need.device)
        return choose_grid(need.height, need.width, 1, most - 1, spacing)
    except InvalidInput:
        return None
