"""Arms are timed in turn."""

from __future__ import annotations

import pytest
import torch

from benchmarks.measure import distance, interleave


def test_arms_take_turns_after_a_warm_up() -> None:
    order: list[str] = []
    arms = {name: lambda name=name: order.append(name) for name in "ABC"}
    samples = interleave(arms, device="cpu", rounds=2, warm_up=1)
    assert "".join(order) == "ABC" * 3
    assert [len(samples[name].seconds) for name in "ABC"] == [2, 2, 2]


def test_an_arm_may_say_its_own_seconds() -> None:
    samples = interleave({"A": lambda: 42.0}, device="cpu", rounds=3)
    assert samples["A"].seconds == [42.0, 42.0, 42.0]


def test_an_arm_that_fails_is_out_and_the_others_go_on() -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of\nluck")

    samples = interleave({"A": fail, "B": lambda: None}, device="cpu", rounds=4, warm_up=1)
    assert samples["A"].error == "RuntimeError: out of luck"
    assert samples["A"].seconds == []
    assert len(samples["B"].seconds) == 4
    assert len(calls) == 3


def test_the_budget_ends_a_case_but_not_below_the_least_rounds() -> None:
    samples = interleave({"A": lambda: None}, device="cpu", rounds=50, budget=0.0, least=4)
    assert len(samples["A"].seconds) == 4


def test_distance_is_relative_to_the_second() -> None:
    a, b = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 8.0])
    assert distance(a, b) == pytest.approx(5 / 8)
    assert distance(b, b) == 0
