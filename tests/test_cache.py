"""What runs share: the values last used, and never more of them than a group holds."""

from __future__ import annotations

import gc
import weakref

from fastnst.cache import LIMITS, Cache


class Value:
    """Something large."""


def test_the_value_that_was_not_used_for_longest_gives_way() -> None:
    cache, made = Cache(), []

    def get(key: int) -> int:
        return cache.get("styles", key, lambda: (made.append(key), key)[1])

    most = LIMITS["styles"]
    for key in (*range(most), 0, most, 0, 1):
        assert get(key) == key
    assert made == [*range(most), most, 1]  # 1 gave way to ``most``, 0 had been used since


def test_two_values_of_a_full_group_never_take_up_memory_together() -> None:
    cache, there = Cache(), weakref.WeakSet()

    def make() -> Value:
        gc.collect()
        assert not there
        value = Value()
        there.add(value)
        return value

    for key in range(3):
        cache.get("network", key, make)
