"""All ranks of a run begin alike: from one checkpoint, or from none."""

from __future__ import annotations

from collections.abc import Sequence

from fastnst.errors import InvalidInput
from fastnst.ranks.protocol import Communication
from fastnst.run.checkpoint_state import Checkpoint


def check_same(saved: Sequence[Checkpoint], speech: Communication) -> None:
    """Make sure that all ranks go on from the same checkpoint; all of them call it together.

    Args:
        saved: What this rank goes on from, if anything.
        speech: How it speaks to the others.

    Raises:
        InvalidInput: on every rank, naming one that has another checkpoint than rank 0, or none.
    """
    if speech.ranks == 1:
        return
    found = speech.gather_objects(saved[0].sha256 if saved else "")
    others = [] if found is None else [rank for rank, x in enumerate(found) if x != found[0]]
    other = speech.broadcast(others[0] if others else None)
    if other is not None:
        raise InvalidInput(
            f"rank {other} has another checkpoint than rank 0, or one of them has none: to go on, "
            "all machines must see the same"
        )
