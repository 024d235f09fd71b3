"""Sums with the same bits in any order, against exact rational sums."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnst.strips.sums import BandSums, FixedPointSum, WideSum, symmetric, upper_triangle


def _addends(count: int, size: int = 15) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(count)
    scale = torch.logspace(-3, 3, size)
    return [scale * torch.randn(size, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_order_any_grouping_same_bits_and_near_the_exact_sum(dtype: torch.dtype) -> None:
    addends = [a.to(dtype) for a in _addends(67)]
    bound = 67 * 5e3
    want = [sum(Fraction(float(a[i])) for a in addends) for i in range(15)]
    results = []
    for seed in range(5):
        order = addends.copy()
        random.Random(seed).shuffle(order)
        parties = [FixedPointSum((15,), bound) for _ in range(1 + seed)]
        for k, addend in enumerate(order):
            parties[k % len(parties)].add(addend)
        for other in parties[1:]:
            parties[0].merge(other.state())
        assert parties[0].holds
        results.append(parties[0].value())
    assert all(torch.equal(results[0], r) for r in results)
    shift = FixedPointSum((15,), bound).shift
    for got, exact in zip(results[0].tolist(), want, strict=True):
        # each addend rounded to half a unit, and the result to float64
        allowed = Fraction(67, 2 ** (shift + 1)) + abs(exact) / 2**52
        assert abs(Fraction(got) - exact) <= allowed


@given(
    st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=20),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_sums_hold_up_to_the_bound_itself(values: list[float], rng: random.Random) -> None:
    bound = sum(abs(v) for v in values) or 1.0
    first, second = FixedPointSum((1,), bound), FixedPointSum((1,), bound)
    shuffled = values.copy()
    rng.shuffle(shuffled)
    for a, b in zip(values, shuffled, strict=True):
        first.add(torch.tensor([a], dtype=torch.float64))
        second.add(torch.tensor([b], dtype=torch.float64))
    assert first.holds
    assert torch.equal(first.state(), second.state())
    exact = float(sum(Fraction(v) for v in values))
    # A unit is below the bound over 2^60, and never finer than 2^-1000.
    unit = max(bound / 2**60, 2.0**-1000)
    assert float(first.value()) == pytest.approx(exact, rel=2**-52, abs=len(values) * unit)


@pytest.mark.parametrize("bound", [2.3e-298, 5e-324, 2.0**-939, 2.0**-940])
def test_tiny_bounds(bound: float) -> None:
    total = FixedPointSum((1,), bound)
    total.add(torch.tensor([bound], dtype=torch.float64))
    total.add(torch.tensor([-bound / 2], dtype=torch.float64))
    assert total.holds
    # Two addends, each rounded to half a unit of at most 2^-1000, or of the bound over 2^60.
    unit = max(bound / 2**60, 2.0**-1000)
    assert abs(float(total.value()) - bound / 2) <= unit


def test_what_breaks_the_bound_is_noticed_in_any_order() -> None:
    for values in ([3e3, 3e3, -3e3], [1e30], [1e5, -1e5], [float("inf")], [float("nan")]):
        for order in (values, values[::-1]):
            total = FixedPointSum((2,), 1e3)
            for value in order:
                total.add(torch.tensor([value, 0.0]))
            assert not total.holds
            assert bool(total.value().isnan().all())
    total.clear()
    total.add(torch.tensor([1.0, 2.0]))
    assert total.holds
    assert total.value().tolist() == [1.0, 2.0]


def test_overflow_of_several_parties_is_noticed() -> None:
    parties = [FixedPointSum((1,), 1.0) for _ in range(5)]
    for party in parties:
        party.add(torch.tensor([1.0]))
        assert party.holds
    for other in parties[1:]:
        parties[0].merge(other.state())
    # within the limit that the integers have, although over the bound: the value is still right
    assert float(parties[0].value()) == 5.0 or not parties[0].holds
    for _ in range(5):
        parties[0].add(torch.tensor([1.0]))
    assert not parties[0].holds


@pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan])
def test_a_bound_must_be_a_positive_number(bound: float) -> None:
    with pytest.raises(ValueError, match="bound"):
        FixedPointSum((1,), bound)


def test_state_can_be_loaded() -> None:
    a = FixedPointSum((2, 3), 10.0)
    a.add(torch.tensor([[1.0, 2, 3], [4, 0.5, -0.25]]))
    b = FixedPointSum((2, 3), 10.0)
    b.load(a.state())
    assert torch.equal(a.value(), b.value())
    assert b.value().shape == (2, 3)


def test_triangles() -> None:
    x = torch.randn(5, 7)
    matrix = x @ x.T
    matrix = (matrix + matrix.T) / 2
    assert upper_triangle(matrix).shape == (15,)
    assert torch.equal(symmetric(upper_triangle(matrix), 5), matrix)


def test_band_sums_are_added_in_the_bands_order() -> None:
    parts = torch.tensor([[1e16, 1.0], [1.0, 2.0], [-1e16, 3.0]], dtype=torch.float64)
    results = []
    for owners in ([0, 0, 0], [1, 0, 1], [2, 1, 0]):
        parties = [BandSums(3, 2) for _ in range(3)]
        for band in (2, 0, 1):
            parties[owners[band]].set(band, parts[band])
        for other in parties[1:]:
            parties[0].merge(other.state())
        results.append(parties[0].value())
    # ((1e16 + 1) - 1e16) in float64 is 0: the order is that of the bands, not one that is better
    assert all(r.tolist() == [0.0, 6.0] for r in results)
    loaded = BandSums(3, 2)
    loaded.load(parties[0].state())
    assert loaded.value().tolist() == [0.0, 6.0]


# --------------------------------------------------------------------------------- any magnitude --


@pytest.mark.parametrize("exponent", [-30, -3, 0, 9, 35])
def test_a_wide_sum_is_exact_whatever_the_size(exponent: int) -> None:
    generator = torch.Generator().manual_seed(exponent)
    addends = torch.randn(9, 5, generator=generator, dtype=torch.float64) * 2.0**exponent
    exact = [math.fsum(column) for column in addends.T.tolist()]
    sums = []
    for order in (range(9), reversed(range(9))):
        wide = WideSum((5,), 100.0)
        for index in order:
            wide.add(addends[index])
        sums.append(wide.value())
    assert torch.equal(*sums)
    # A unit is 2**-66 of about 100; each addend is rounded once, and the sum to float64.
    for found, right in zip(sums[0].tolist(), exact, strict=True):
        assert abs(found - right) <= 9 * 100 * 2.0**-66 + 2.0**-52 * abs(right)


def test_parties_of_a_wide_sum_are_added_up() -> None:
    addends = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, first, second = (WideSum((3,), 1.0) for _ in range(3))
    for index, addend in enumerate(addends):
        whole.add(addend)
        (first, second)[index % 2].add(addend)
    for mine, other in zip(first.tables, second.tables, strict=True):
        mine += other
    assert torch.equal(first.value(), whole.value())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30])
def test_a_wide_sum_notices_what_it_cannot_hold(bad: float) -> None:
    wide = WideSum((2,), 1.0)
    wide.add(torch.tensor([1.0, 2.0]))
    assert wide.value().tolist() == [1.0, 2.0]
    wide.add(torch.tensor([0.0, bad]))
    assert bool(wide.value().isnan().all())
