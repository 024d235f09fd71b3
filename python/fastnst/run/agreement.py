"""All ranks of a run begin alike: from one checkpoint, or from none."""

from __future__ import annotations

from collections.abc import Sequence

from fastnst.errors import InvalidInput
from fastnst.ranks.protocol import Communication
from fastnst.run.checkpoint_state import Checkpoint


def check_same(
    saved: Sequence[Checkpoint], speech: Communication, refused: str | None = None
) -> None:
    """Make sure that all ranks go on from the same checkpoint; all of them call it together.

    Args:
        saved: What this rank goes on from, if anything.
        speech: How it speaks to the others.
        refused: Why this rank cannot use its checkpoint; None: it can, or has none.

    Raises:
        InvalidInput: on every rank, naming one that has another checkpoint than rank 0, none, or
            one that it cannot use.
    """
    if speech.ranks == 1:
        said = refused
    else:
        found = speech.gather_objects((saved[0].sha256 if saved else "", refused))
        said = speech.broadcast(None if found is None else _differs(found))
    if said is not None:
        raise InvalidInput(said)


def _differs(found: Sequence[tuple[str, str | None]]) -> str | None:
    """What keeps ranks from going on, by the digests of their checkpoints and why not."""
    reasons = [(rank, reason) for rank, (_, reason) in enumerate(found) if reason is not None]
    if reasons:
        rank, reason = reasons[0]
        return reason if len(reasons) == len(found) else f"rank {rank}: {reason}"
    for rank, (digest, _) in enumerate(found):
        if digest != found[0][0]:
            return (
                f"rank {rank} has another checkpoint than rank 0, or one of them has none: to go "
                "on, all machines must see the same"
            )
    return None
