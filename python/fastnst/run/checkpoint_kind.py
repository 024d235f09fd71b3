"""By what a checkpoint is recognised, without torch."""

from __future__ import annotations


def is_checkpoint(head: bytes) -> bool:
    """Whether a file whose first bytes are these is a checkpoint of a run."""
    return head[8:9] == b"{" and b'"__metadata__"' in head and b"fastnst" in head
