"""The loop around any solver: states to go on from, restarts, and the best picture."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.evaluation import Evaluation, Terms
from fastnst.solvers.minimise import SOLVERS, minimise
from fastnst.solvers.vectors import PLAIN, Placement
from fastnst.strips.geometry import Spacing, spans
from helpers.functions import curved, failing, uniform


@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral", "torch-lbfgs", "adam"])
def test_the_solver_goes_on_from_any_iterate(optimizer: str) -> None:
    target, start = uniform(-0.5, 1.5), uniform(0, 1, seed=1)
    settings = {"iterations": 12, "optimizer": optimizer, "history_size": 3}
    path: list[Tensor] = []
    states = []
    for iterate in minimise(curved(target), start, **settings):
        path.append(iterate.image.clone())
        state = iterate.state()
        copies = {name: tensor.clone() for name, tensor in state.tensors.items()}
        states.append(type(state)(json.loads(json.dumps(state.numbers)), copies))
    for k, state in enumerate(states):
        rest = minimise(curved(target), torch.zeros_like(start), **settings, resume=state)
        images = [iterate.image.clone() for iterate in rest]
        assert len(images) == 12 - k
        for ours, whole in zip(images, path[k + 1 :], strict=True):
            assert torch.equal(ours, whole)


def test_a_restart_after_a_bad_value_is_part_of_the_state() -> None:
    target = uniform(0.2, 0.8)
    good = curved(target)
    start = torch.full_like(target, 0.5)

    def failing(after: int):
        calls = 0

        def evaluate(image: Tensor):
            nonlocal calls
            calls += 1
            evaluation = good(image)
            return good(image * float("nan")) if calls == after else evaluation

        return evaluate

    states, images = [], []
    for iterate in minimise(failing(5), start, iterations=10):
        state = iterate.state()
        states.append(type(state)(dict(state.numbers),
                                  {k: v.clone() for k, v in state.tensors.items()}))  # fmt: skip
        images.append(iterate.image.clone())
    after = next(k for k, state in enumerate(states) if state.numbers["restarts"] == 1)
    assert states[after].numbers["caution"] == 0.25
    *_, last = minimise(good, start, iterations=10, resume=states[after])
    assert torch.equal(last.image, images[-1])


@pytest.mark.parametrize("optimizer", SOLVERS)
def test_the_best_is_the_lowest_so_far(optimizer: str) -> None:
    evaluate, _ = failing(curved(uniform(-0.5, 1.5)), {6: math.nan})
    images, losses = [], []
    for iterate in minimise(evaluate, uniform(0, 1, seed=1), iterations=20, optimizer=optimizer):
        images.append(iterate.image.clone())
        losses.append(iterate.loss)
        lowest = losses.index(min(losses))
        assert torch.equal(iterate.best, images[lowest])
        assert iterate.is_best == (lowest == len(losses) - 1)


def test_another_precision_begins_a_new_comparison() -> None:
    """The loss is higher from the fifth evaluation on, which is in another precision."""
    good, calls = curved(uniform(0.2, 0.8)), 0

    def evaluate(image: Tensor) -> Evaluation:
        nonlocal calls
        calls += 1
        found = good(image)
        if calls <= 4:
            return Evaluation(found.terms, found.gradient, "bf16")
        terms = type(found.terms)(found.terms.total + 1e6, {}, {}, found.terms.tv)
        return Evaluation(terms, found.gradient, "fp32")

    precisions = []
    for iterate in minimise(evaluate, torch.full_like(uniform(0, 1), 0.5), iterations=6):
        precisions.append(iterate.precision)
        if iterate.iteration == 4:
            assert iterate.is_best
            assert torch.equal(iterate.best, iterate.image)
    assert precisions == ["bf16"] * 4 + ["fp32"] * 3


def test_a_finished_run_with_an_average_goes_on_as_if_it_had_not_been_made() -> None:
    """An engine may overwrite the gradient when the average is evaluated; the state has it."""
    good, memory = curved(uniform(0.2, 0.8)), torch.zeros_like(uniform(0, 1))

    def evaluate(image: Tensor) -> Evaluation:
        found = good(image)
        return Evaluation(found.terms, memory.copy_(found.gradient))

    common = {"optimizer": "adam", "averaging": 0.8}
    start = uniform(0, 1, seed=1)
    for iterate in minimise(evaluate, start, iterations=5, **common):
        if iterate.iteration == 5 and not iterate.averaged:
            state = iterate.state()
            copies = {name: tensor.clone() for name, tensor in state.tensors.items()}
            state = type(state)(dict(state.numbers), copies)
    assert iterate.averaged
    *_, whole = minimise(evaluate, start, iterations=9, **common)
    *_, rest = minimise(evaluate, start, iterations=9, resume=state, **common)
    assert torch.equal(rest.image, whole.image)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_average_whose_loss_is_not_finite_is_not_shown(value: float) -> None:
    evaluate, calls = failing(curved(uniform(0.2, 0.8)), {7: value})
    start = uniform(0, 1, seed=1)
    found = list(minimise(evaluate, start, iterations=5, optimizer="adam", averaging=0.8))
    assert len(calls) == 7  # the start, five steps, the average
    assert [iterate.averaged for iterate in found] == [False] * 6
    assert all(math.isfinite(iterate.loss) for iterate in found)


BANDS = Placement(spans(22, 8, Spacing(4, 4)))
TARGET, START, STEEPNESS = torch.rand(
    (3, 1, 3, 22, 5), generator=torch.Generator().manual_seed(0)
).unbind()


def bowl(image: Tensor, factor: float = 1.0) -> Evaluation:
    """Of degree four, in float32; where ``factor`` is a power of two all digits stay."""
    away = image - TARGET
    weights = 0.1 + STEEPNESS
    loss = (weights * away.square() + 0.3 * away**4).sum() * factor
    gradient = (2 * weights * away + 1.2 * away**3) * factor
    return Evaluation(Terms(loss, {}, {}, torch.zeros(())), gradient)


def images(evaluate, optimizer: str, placement: Placement) -> list[Tensor]:
    common = {"optimizer": optimizer, "placement": placement, "averaging": 0.5}
    found = minimise(evaluate, START, iterations=12, history_size=4, **common)
    return [iterate.image.clone() for iterate in found]


@pytest.mark.parametrize("factor", [2.0**100, 2.0**66, 2.0**-83])  # 1e30, 1e20, 1e-25
@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral", "torch-lbfgs", "adam"])
@pytest.mark.parametrize("placement", [PLAIN, BANDS])
def test_large_and_small_weights_change_no_bit(
    optimizer: str, placement: Placement, factor: float
) -> None:
    """No product of gradients over- or underflows, and nothing is added to their size."""
    plain = images(bowl, optimizer, placement)
    assert not torch.equal(plain[0], plain[-1])
    scaled = images(lambda image: bowl(image, factor), optimizer, placement)
    for ours, theirs in zip(scaled, plain, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral", "torch-lbfgs", "adam"])
@pytest.mark.parametrize("placement", [PLAIN, BANDS])
@pytest.mark.parametrize("mode", ["autocast", "inference mode"])
def test_the_modes_of_the_caller_change_no_bit(
    optimizer: str, placement: Placement, mode: str
) -> None:
    plain = images(bowl, optimizer, placement)
    around = torch.autocast("cpu", torch.bfloat16) if mode == "autocast" else torch.inference_mode()
    with around:
        inside = images(bowl, optimizer, placement)
        assert torch.is_autocast_enabled("cpu") == (mode == "autocast")
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(inside, plain, strict=True))


def test_between_two_iterates_the_modes_of_the_caller_are_as_they_were() -> None:
    iterates = minimise(bowl, START, iterations=2, optimizer="spectral")
    with torch.autocast("cpu", torch.bfloat16):
        for _ in iterates:
            assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")


def test_spectra_need_float32() -> None:
    start = torch.rand(1, 3, 8, 8).half()
    with pytest.raises(InvalidInput, match=r"optimizer spectral: .* torch\.float16"):
        next(iter(minimise(lambda _: None, start, iterations=1, optimizer="spectral")))
