"""Who of several ranks is waited for, as rank 0 learns it from the meeting point."""

from __future__ import annotations

import threading
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


def test_rank_0_stays_for_those_that_count_and_not_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who looks late must find its word; who was killed does not hold it up for long."""
    for name, seconds in (("BEAT", 0.02), ("GRACE", 0.1), ("SILENT", 1.0)):
        monkeypatch.setattr(watch, name, seconds)
    store = HashStore()
    ranks = [Watch(store, rank, 3, lambda: 1) for rank in range(3)]
    deadline = time.monotonic() + 30
    while store.add("count 2", 0) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    ranks[1].close()  # it counts no longer, as if it had been killed
    ranks[0].leave_word("the disk is full")
    leaving = threading.Thread(target=ranks[0].close)
    leaving.start()
    leaving.join(1.5)  # longer than a grace, and than rank 1 is waited for
    assert leaving.is_alive()
    assert "the disk is full" in ranks[2].explain(None, "timed out", 1.0)
    leaving.join(30)
    assert not leaving.is_alive()
    ranks[2].close()


def test_rank_0_does_not_stay_for_a_rank_that_has_failed_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "BEAT", 0.02)
    monkeypatch.setattr(watch, "STAY", 1e3)
    monkeypatch.setattr(watch, "SILENT", 1e3)
    store = HashStore()
    ranks = [Watch(store, rank, 2, lambda: 1) for rank in range(2)]
    for one in reversed(ranks):
        one.leave_word("the disk is full")
        one.close()  # would hang
