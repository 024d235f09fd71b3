"""How ranks speak: what arrives, what it costs, and what is said when one of them is gone."""

from __future__ import annotations

import signal
import sys

import pytest
import torch

from fastnst.errors import InvalidInput, RankLost
from fastnst.ranks import communication
from fastnst.ranks.protocol import Alone, in_order
from helpers import ranks_work
from helpers.ranks import on_ranks, start

unix = pytest.mark.skipif(sys.platform == "win32", reason="needs the signals of Unix")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(communication, "_current", Alone())
    return monkeypatch


def test_a_process_is_alone_unless_it_joins(environment: pytest.MonkeyPatch) -> None:
    before = communication.current()
    assert communication.join() is before
    assert (before.rank, before.ranks, before.joined) == (0, 1, False)
    environment.setenv("RANK", "0")
    environment.setenv("WORLD_SIZE", "1")
    assert not communication.current().joined
    assert communication.join().joined
    assert communication.current().ranks == 1
    communication.leave()
    assert not communication.current().joined


def test_the_only_rank_has_the_sums_already() -> None:
    alone = Alone()
    parts = torch.tensor([[1e16, 1.0], [1.0, 2.0], [-1e16, 3.0]], dtype=torch.float64)
    assert alone.reduce_in_order(parts).tolist() == [0.0, 6.0]
    rows = torch.zeros(1)
    assert alone.exchange(rows, rows) == (None, None)
    assert alone.gather({"x": rows}) == [{"x": rows}]
    assert alone.broadcast("x") == "x"
    assert not alone.stops
    alone.ask_to_stop()
    assert alone.stops
    assert alone.sent == 0


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RANK", "2", "RANK is 2: expected less than WORLD_SIZE, which is 2"),
        ("RANK", "one", "RANK is 'one': expected a whole number of 0 or more"),
        ("WORLD_SIZE", "0", "WORLD_SIZE is '0': expected a whole number of 1 or more"),
        ("MASTER_PORT", "", "MASTER_PORT is not set"),
        ("MASTER_PORT", "http", "MASTER_PORT is 'http': expected a whole number"),
    ],
)
def test_an_environment_that_makes_no_sense(
    environment: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    right = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for key, text in {**right, name: value}.items():
        environment.setenv(key, text)
    with pytest.raises(InvalidInput, match=said):
        communication.join(1)


def test_rows_go_to_both_neighbours() -> None:
    rows = torch.arange(12.0).view(1, 3, 2, 2).permute(0, 1, 3, 2)
    found = on_ranks(3, ranks_work.neighbours)
    for rank, (above, below, sent) in enumerate(found):
        assert above is None if rank == 0 else torch.equal(above, rows + 100 * (rank - 1) + 50)
        assert below is None if rank == 2 else torch.equal(below, rows + 100 * (rank + 1))
        assert sent == 12 * 4 * (2 if rank == 1 else 1)


def test_sums_are_exact_and_in_order() -> None:
    for ranks in (2, 3):
        found = on_ranks(ranks, ranks_work.sums, 1)
        values = [[1e16, 0.1], [1.0, 0.2], [-1e16, -0.0]]
        expected = [values[band % 3] for band in range(2 * ranks)]
        for units, parts, total, sent, calls in found:
            first = sum((2**61 - 1) // ranks for _ in range(ranks))
            assert units.tolist() == [first, -5 // ranks * ranks, 0]
            assert parts.tolist() == expected
            assert total.tolist() == in_order(parts).tolist()
            assert calls == 2
            # Three integers and the table in the first, the table in the second; a word with each.
            numbers = (3 + 4 * ranks + 1), (4 * ranks + 1)
            assert sent == sum(2 * (ranks - 1) * n * 8 // ranks for n in numbers)


def test_collecting_and_telling() -> None:
    first, *others = on_ranks(3, ranks_work.collections)
    gathered = [{name: x.tolist() for name, x in tensors.items()} for tensors in first[0]]
    assert gathered == [
        {},
        {"1.0": [], "1.2": [0, 1]},
        {"2.0": [], "2.2": [0, 1], "2.4": [0, 1, 2, 3]},
    ]
    everywhere = [[], [0, 1, 2], [0, 1, 2, 3, 4, 5]]
    assert first[1:] == (everywhere, [{"rank": 0}, {"rank": 1}, {"rank": 2}], "of 0")
    assert others == [(None, everywhere, None, "of 0")] * 2


def test_all_ranks_stop_at_the_same_sum() -> None:
    assert on_ranks(2, ranks_work.stopping) == [[False, False, True, True]] * 2


# ------------------------------------------------------------------------------------- failures --


@unix
@pytest.mark.parametrize("at", ["exchange", "sum"])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_is_named(victim: int, at: str) -> None:
    ranks = start(3, ranks_work.lose, victim, "killed", at)
    for rank in (r for r in range(3) if r != victim):
        error = ranks[rank].result()
        assert isinstance(error, RankLost)
        assert "\n" not in str(error)
        if victim == 0:  # who keeps the meeting point in this process, so that nobody can be asked
            assert "rank 0" in str(error)
        else:
            assert str(error).startswith(
                f"rank {rank} of 3 cannot go on: rank 1 was killed or stopped ("
            )
    ranks[victim].process.join(5)
    assert ranks[victim].process.exitcode == -signal.SIGKILL


@unix
@pytest.mark.parametrize(
    "how", ["messages", "exchange", "an exchange under way", "a sum", "gathering"]
)
def test_a_rank_that_waits_for_one_that_fails_does_not_wait_for_the_limit(how: str) -> None:
    """The connections of a rank that fails end with it, before it waits for others to look."""
    ranks = start(3, ranks_work.wait_in_a_chain, how)
    try:
        for rank in (0, 2):
            said = str(ranks[rank].result())
            assert said.startswith(f"rank {rank} of 3 cannot go on: rank 1 was killed or stopped (")
            assert "nothing came within" not in said
    finally:
        ranks[2].process.kill()


@unix
def test_a_rank_that_hangs_is_named_within_the_limit() -> None:
    ranks = start(3, ranks_work.lose, 2, "stopped", "exchange", limit=2.0)
    try:
        errors = [ranks[rank].result() for rank in (0, 1)]
        assert all(isinstance(error, RankLost) for error in errors)
        assert "rank 2 was killed or stopped (nothing came within 2 s)" in str(errors[1])
    finally:
        ranks[2].process.kill()


def test_the_reason_of_a_rank_that_fails_is_told_to_all() -> None:
    errors = on_ranks(3, ranks_work.lose, 1, "failed", "sum")
    assert str(errors[1]) == "the disk is full"
    for rank in (0, 2):
        assert "rank 1 ended: the disk is full" in str(errors[rank])


def test_a_rank_that_takes_long_to_look_finds_the_reason_of_rank_0() -> None:
    """Rank 0 has the meeting point in its process: it stays until all have looked there."""
    _, said = on_ranks(2, ranks_work.fail_while_others_wait, 1.0)
    assert "rank 0 ended: the disk is full" in said


def test_a_rank_that_is_only_late_is_named() -> None:
    ranks = start(2, ranks_work.lose, 1, "busy", "sum", limit=1.0)
    try:
        said = str(ranks[0].result())
        assert said.endswith("cannot go on: rank 1 is still busy (nothing came within 1 s)")
    finally:
        ranks[1].process.kill()
