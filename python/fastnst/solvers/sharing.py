"""The state of a solver whose picture several ranks share: put together, and taken apart.

What is saved is one state of the whole picture, so any number of ranks goes on from it. Three kinds
of tensors are in it: pictures, of four dimensions, of which each rank has its rows; what belongs to
a band, which has the band in its name; and what all ranks have alike.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor

from fastnst.solvers.state import State
from fastnst.solvers.vectors import BAND, Placement

_BAND = re.compile(rf"(?:^|\.){BAND}(\d+)(?:\.|$)")


def together(state: State, placement: Placement) -> State | None:
    """The state of the whole picture on rank 0, elsewhere None; all ranks call it together.

    Args:
        state: What the solver of this rank has.
        placement: That of the solver.
    """
    speech = placement.communication
    if speech.ranks == 1:
        return state
    _, own = apart(state)
    found = speech.gather({name: x.detach().cpu() for name, x in own.items()})
    if found is None:
        return None
    tensors = dict(state.tensors)
    for name, x in own.items():
        if is_picture(x):
            tensors[name] = torch.cat([part[name] for part in found], -2)
    for part in found[1:]:
        tensors |= {name: x for name, x in part.items() if _band_of(name) is not None}
    return State(state.numbers, tensors)


def apart(state: State) -> tuple[State, dict[str, Tensor]]:
    """What all ranks have alike of a solver's state, and what this one alone has."""
    own = {k: x for k, x in state.tensors.items() if is_picture(x) or _band_of(k) is not None}
    alike = {name: x for name, x in state.tensors.items() if name not in own}
    return State(state.numbers, alike), own


def own_part(state: State, placement: Placement) -> State:
    """What a rank goes on from, of the state of the whole picture.

    Args:
        state: What ``together`` returned.
        placement: That of the rank's solver.
    """
    if placement.communication.ranks == 1:
        return state
    mine = {band.index for band in placement.bands}
    rows = slice(placement.bands[0].start, placement.bands[-1].stop)
    return State(
        state.numbers,
        {
            name: x[..., rows, :] if is_picture(x) else x
            for name, x in state.tensors.items()
            if _band_of(name) is None or _band_of(name) in mine
        },
    )


def _band_of(name: str) -> int | None:
    found = _BAND.search(name)
    return None if found is None else int(found[1])


def is_picture(x: Tensor) -> bool:
    """Whether a tensor of a solver's state is a picture, of which each rank has rows."""
    return x.ndim == 4
