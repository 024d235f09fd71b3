"""What runs in one process share: it is made for the first of them and used again by the next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

# How many entries a group holds at most; a group that is not named holds one. A network with its
# transformed filters takes 0.3 to 0.6 GB, the Gram matrices of a style 2.4 MB (the paper's layers),
# a decoded style picture 12 bytes a pixel.
LIMITS = {"style targets": 32, "styles": 8}


class Cache:
    """The values last used in each of several groups, by the key that they were made from."""

    def __init__(self) -> None:
        self._groups: dict[str, OrderedDict[Hashable, Any]] = {}

    def get(self, group: str, key: Hashable, make: Callable[[], T]) -> T:
        """The value that was made from ``key`` before, or else the one that ``make`` makes now.

        A full group loses the value that was not used for the longest time, before the new one is
        made: two of them never take up memory together.
        """
        values = self._groups.setdefault(group, OrderedDict())
        if key in values:
            values.move_to_end(key)
        else:
            while len(values) >= LIMITS.get(group, 1):
                values.popitem(last=False)
            values[key] = make()
        value: T = values[key]
        return value
