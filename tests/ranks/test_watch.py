"""Who of several ranks is waited for, as rank 0 learns it from the meeting point."""

from __future__ import annotations

import time

import pytest
from torch.distributed import HashStore

from fastnst.ranks import watch
from fastnst.ranks.watch import Watch


def test_who_has_begun_fewer_communications_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BEAT", 0.02)
    store, calls = HashStore(), [5, 4, 5]
    ranks = [Watch(store, rank, 3, lambda rank=rank: calls[rank]) for rank in range(3)]

    def until(late: tuple[int, ...]) -> None:
        deadline = time.monotonic() + 30
        while ranks[0].late != late and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ranks[0].late == late

    try:
        until((1,))
        calls[1] = 5  # it has come, and now all of them work
        until(())
        calls[1] = 6
        until((0, 2))
        assert ranks[1].late == ()  # which rank 0 alone knows
    finally:
        for one in ranks:
            one.close()
