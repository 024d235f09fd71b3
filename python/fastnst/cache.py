"""What runs share: made for the first of them, kept for the next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

# How many of a kind are kept at most; one of the others. A network with its transformed filters takes
# 0.3 to 0.6 GB, the Gram matrices of a style 2.4 MB (the paper's layers), a style as it was decoded 12 bytes a
# pixel.
LIMITS = {"style targets": 32, "styles": 8}


class Cache:
    """The last few things of each kind, by what they were made from."""

    def __init__(self) -> None:
        self._kinds: dict[str, OrderedDict[Hashable, Any]] = {}

    def get(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """What was made from ``key`` before, or else what ``make`` makes now."""
        things = self._kinds.setdefault(kind, OrderedDict())
        if key in things:
            things.move_to_end(key)
        else:
            while len(things) >= LIMITS.get(kind, 1):  # first, so that two never share the memory
                things.popitem(last=False)
            things[key] = make()
        kept: T = things[key]
        return kept
