"""L-BFGS by bands with one sum an iteration: the steps of L-BFGS."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from fastnst.evaluation import Evaluation, Terms
from fastnst.ranks.protocol import Alone
from fastnst.solvers.banded_lbfgs import BandedLBFGS, Products
from fastnst.solvers.minimise import minimise
from fastnst.solvers.solver import Setup
from fastnst.solvers.vectors import Placement
from fastnst.strips import storage
from fastnst.strips.geometry import Spacing, Span, spans

BANDS = spans(22, 8, Spacing(4, 4))


class Counting(Alone):
    """Two ranks of which one has nothing: it counts the sums that this one takes part in."""

    def __init__(self) -> None:
        super().__init__()
        self.ranks = 2

    def reduce_in_order(self, parts: Tensor) -> Tensor:
        self.calls += 1
        return super().reduce_in_order(parts)


class Kicked:
    """A quadratic function that shows, at two evaluations, no curvature along the last step."""

    def __init__(self) -> None:
        self.calls = 0
        self.last: Tensor | None = None

    def __call__(self, x: Tensor) -> Evaluation:
        """The function; at its evaluations 4 and 9 the gradient falls along the way to x."""
        self.calls += 1
        weights = 1 + torch.linspace(0, 9, x.numel(), dtype=x.dtype).view(x.shape)
        gradient = weights * (x - 0.4)
        loss = (weights * (x - 0.4).square()).sum() / 2
        if self.last is not None and self.calls in (4, 9):
            gradient = gradient - 20 * (x - self.last)
        self.last = x.clone()
        return Evaluation(Terms(loss, {}, {}, loss.new_zeros(())), gradient)


def steps(placement: Placement, history_size: int) -> list[tuple[Tensor, list[int]]]:
    """The pictures on the way, and the rows of the pairs that are kept, oldest first."""
    start = torch.rand((1, 3, 22, 5), generator=torch.Generator().manual_seed(0)).double()
    iterates = minimise(
        Kicked(), start, iterations=14, history_size=history_size, placement=placement
    )
    found = []
    for iterate in iterates:
        numbers = iterate.state().numbers
        order = numbers.get("lbfgs.order", numbers.get("lbfgs.pairs.order", []))
        found.append((iterate.image.clone(), list(order)))
    return found


@pytest.mark.parametrize("history_size", [2, 4, 20])
def test_pairs_that_are_not_taken_cost_no_other(history_size: int) -> None:
    """The steps of L-BFGS, which keeps no pair before it has judged it."""
    whole, cut = steps(Placement(), history_size), steps(Placement(BANDS), history_size)
    refused = [a for a, b in itertools.pairwise(order for _, order in cut[1:]) if a == b]
    assert len(refused) == 2
    for k in range(1, len(whole)):
        # Float64 sums in another order, in up to 14 steps that amplify their rounding.
        torch.testing.assert_close(cut[k][0], whole[k][0], rtol=1e-9, atol=1e-9)
        if k + 1 < len(whole):  # it has judged a pair one step earlier
            assert len(cut[k][1]) == len(whole[k + 1][1])


@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bands", [BANDS, None])
def test_a_state_has_nothing_of_memory_that_was_never_written(
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
    dtype: torch.dtype,
    bands: Sequence[Span] | None,
) -> None:
    """A checkpoint with such memory may not be finite, and is refused when it is read."""
    empty = storage.empty

    def poisoned(*args: Any, **more: Any) -> Tensor:
        memory = empty(*args, **more)
        return memory.fill_(torch.nan if memory.is_floating_point() else 99)

    monkeypatch.setattr(storage, "empty", poisoned)
    start = torch.rand((1, 3, 22, 5), generator=torch.Generator().manual_seed(0), dtype=dtype)
    placement = Placement() if bands is None else Placement(bands)
    iterates = minimise(
        Kicked(), start, iterations=9, history_size=4, placement=placement, optimizer=optimizer
    )
    for iterate in iterates:
        for name, x in iterate.state().tensors.items():
            assert not x.is_floating_point() or x.isfinite().all(), (iterate.iteration, name)


def test_an_iteration_takes_one_sum() -> None:
    communication = Counting()
    start = torch.rand((1, 3, 22, 5), generator=torch.Generator().manual_seed(0)).double()
    placement = Placement(BANDS, None, communication, len(BANDS))
    calls = [
        communication.calls
        for _ in minimise(Kicked(), start, iterations=6, history_size=3, placement=placement)
    ]
    # The first evaluation knows no solver yet; the first step asks for what it needs itself.
    assert [b - a for a, b in itertools.pairwise(calls)] == [2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(("cosine", "taken"), [(1e-7, True), (1e-9, False)])
def test_curvature_below_rounding_is_none(cosine: float, taken: bool) -> None:
    """As ``curvature_along`` has it."""
    image = torch.rand((1, 3, 22, 5), generator=torch.Generator().manual_seed(0)).double()
    placement = Placement(BANDS)
    solver = BandedLBFGS(Setup(image, (0.0, 1.0), 3, 0.0, 1.0, 1.0, placement))
    solver._make_room(4)
    of = Products(1.0, 1.0, 2.0 * 3.0 * cosine, 9.0, 4.0, *torch.zeros(4, 4).double())
    solver._learn(of)
    assert (len(solver.order) == 1) == taken


def test_products_take_the_room_of_the_pairs_that_there_are() -> None:
    """With room for ten thousand pairs the matrices would have 2.4 GB."""
    start = torch.rand((1, 3, 22, 5), generator=torch.Generator().manual_seed(0)).double()
    found = []
    for history_size in (10_000, 30):
        iterates = minimise(
            Kicked(), start, iterations=24, history_size=history_size, placement=Placement(BANDS)
        )
        *_, last = iterates
        tensors = last.state().tensors
        pairs = len(last.state().numbers["lbfgs.order"])
        assert 20 < pairs < 24
        for name in ("ss", "sy", "yy"):
            assert tensors[f"lbfgs.{name}"].shape == (pairs, pairs)
            assert tensors[f"lbfgs.{name}"].untyped_storage().nbytes() <= 8 * 32**2
        assert tensors["lbfgs.sg"].shape == tensors["lbfgs.yg"].shape == (pairs,)
        found.append(last.image.clone())
    assert torch.equal(*found)
