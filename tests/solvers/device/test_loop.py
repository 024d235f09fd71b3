"""The loop that runs ahead of what it shows: every iterate once, and states to go on from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fastnst.evaluation import Evaluation, Terms
from fastnst.solvers.device.loop import BATCH, minimise_on_device
from fastnst.solvers.iterate import Iterate
from helpers.functions import assert_same_path, curved, failing, path_of, saved, uniform


@pytest.mark.parametrize("iterations", [0, 1, BATCH, BATCH + 1, 3 * BATCH + 2])
def test_every_iterate_comes_once_with_its_picture_and_terms(iterations: int) -> None:
    def evaluate(image: Tensor) -> Evaluation:
        x = image.detach()
        content, style = {"relu1_1": x.mean()}, {"conv2_2": x.std(), "pool1": x.amax()}
        terms = Terms((x - 0.3).square().sum(), content, style, x.amin())
        return Evaluation(terms, 2 * (x - 0.3))

    start = uniform(0, 1)
    before = start.clone()
    seen = 0
    for iterate in minimise_on_device(evaluate, start, iterations=iterations):
        assert (iterate.iteration, iterate.evaluations) == (seen, seen + 1)
        expected = evaluate(iterate.image).terms
        got = iterate.terms
        assert iterate.loss == float(got.total) == float(expected.total)
        assert (dict(got.content), dict(got.style)) == (expected.content, expected.style)
        assert (list(got.content), list(got.style)) == (["relu1_1"], ["conv2_2", "pool1"])
        assert got.tv == expected.tv
        seen += 1
    assert seen == iterations + 1
    assert torch.equal(start, before)


@pytest.mark.parametrize("fails_at", [0, 6])
@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral"])
def test_it_goes_on_from_any_iterate_bit_for_bit(optimizer: str, fails_at: int) -> None:
    target, start = uniform(-0.5, 1.5), uniform(0, 1, seed=1)
    settings = {"iterations": 12, "history_size": 3, "optimizer": optimizer, "stepwise": True}
    evaluate, _ = failing(curved(target), {fails_at: math.nan})
    whole, states = [], []
    for iterate in minimise_on_device(evaluate, start, **settings):
        whole.append((iterate.iteration, iterate.evaluations, iterate.image.clone()))
        states.append(saved(iterate))
    assert all("image" in s.tensors and "best" in s.tensors for s in states)
    # going on after the failure
    for k, state in enumerate(states):
        if k < fails_at - 1:
            continue
        rest = minimise_on_device(curved(target), torch.zeros_like(start), **settings, resume=state)
        rest = [(i.iteration, i.evaluations, i.image.clone()) for i in rest]
        assert len(rest) == 12 - k
        for ours, theirs in zip(rest, whole[k + 1 :], strict=True):
            assert ours[:2] == theirs[:2]
            assert torch.equal(ours[2], theirs[2])


def test_it_goes_on_further_than_was_asked_for_at_first() -> None:
    target, start = uniform(-0.5, 1.5), uniform(0, 1, seed=1)
    *_, last = minimise_on_device(curved(target), start, iterations=4, stepwise=True)
    rest = path_of(minimise_on_device(curved(target), start, iterations=15, resume=saved(last)))
    whole = path_of(minimise_on_device(curved(target), start, iterations=15))
    assert_same_path(rest, whole[5:], 1e-12)  # fewer rows of zeros in the sums
    assert not path_of(minimise_on_device(curved(target), start, iterations=2, resume=saved(last)))


def test_a_state_of_an_iterate_that_was_left_behind_is_refused() -> None:
    iterates = minimise_on_device(curved(uniform(0, 1)), uniform(0, 1, seed=1), iterations=20)
    next(iterates)
    second = next(iterates)
    with pytest.raises(RuntimeError, match="stepwise"):
        second.state()


@pytest.mark.parametrize("stepwise", [True, False])
def test_the_best_is_of_the_iterates_that_were_seen(stepwise: bool) -> None:
    """Though the device is ahead of them, and past an evaluation that was not finite."""
    evaluate, _ = failing(curved(uniform(0.3, 0.7)), {7: math.nan})
    images, losses = [], []
    for iterate in minimise_on_device(evaluate, uniform(0, 1), iterations=17, stepwise=stepwise):
        images.append(iterate.image.clone())
        losses.append(iterate.loss)
        lowest = losses.index(min(losses))
        assert torch.equal(iterate.best, images[lowest])
        assert iterate.is_best == (lowest == len(losses) - 1)


@pytest.mark.parametrize("at", [1, 2, 6, 7, 11])
@pytest.mark.parametrize("stepwise", [True, False])
def test_evaluations_change_where_a_total_that_was_read_asks_for_it(
    stepwise: bool, at: int
) -> None:
    """As mixed precision does it: the change comes late, and every iterate says what it is of."""
    target = uniform(0.3, 0.7)
    good, precision, totals = curved(target), ["bf16"], []

    def evaluate(image: Tensor) -> Evaluation:
        found = good(image)
        return Evaluation(found.terms, found.gradient, precision[0])

    def note(total: float) -> bool:
        totals.append(total)
        if len(totals) != at:
            return False
        precision[0] = "fp32"
        return True

    iterates = minimise_on_device(
        evaluate, uniform(0, 1, seed=1), iterations=30, stepwise=stepwise, note=note
    )
    seen = [(i.precision, i.loss) for i in iterates]
    assert [loss for _, loss in seen][: len(totals)] == totals
    assert len(totals) > 30 - 2 * BATCH
    kinds = [kind for kind, _ in seen]
    changed = kinds.index("fp32")
    assert kinds == ["bf16"] * changed + ["fp32"] * (31 - changed)
    assert changed == {1: 1, 2: 11, 6: 11, 7: 16, 11: 16}[at]  # with the second batch after it


@pytest.mark.parametrize("stop", [8, 11, 13, 17, 20])
def test_evaluations_change_at_the_same_place_however_a_run_is_made(stop: int) -> None:
    """Launched ahead, waited for, and resumed before or after the change."""

    class Mixed:
        def __init__(self) -> None:
            self.good, self.totals = curved(uniform(0.3, 0.7)), []

        def evaluate(self, image: Tensor) -> Evaluation:
            found = self.good(image)
            if len(self.totals) < 9:
                return Evaluation(found.terms, found.gradient, "bf16")
            return Evaluation(found.terms, found.gradient * 1.5, "fp32")

        def note(self, total: float) -> bool:
            self.totals.append(total)
            return len(self.totals) == 9

    def go(engine: Mixed, **how) -> Iterator[Iterate]:
        its = {"iterations": 25, "history_size": 4, "note": engine.note, **how}
        return minimise_on_device(engine.evaluate, uniform(0, 1, seed=1), **its)

    ahead = [(i.precision, i.loss, i.image.clone()) for i in go(Mixed())]
    one, waited = Mixed(), []
    for iterate in go(one, stepwise=True):
        waited.append((iterate.precision, iterate.loss, iterate.image.clone()))
        if iterate.iteration == stop:
            state = saved(iterate)
    again = Mixed()
    losses = [loss for _, loss, _ in waited[: stop + 1]]
    again.totals = losses[: len(losses) - len(state.tensors["unheard"])]
    for iterate in go(again, stepwise=True, resume=state):
        waited.append((iterate.precision, iterate.loss, iterate.image.clone()))
    assert [kind for kind, _, _ in ahead].index("fp32") == 16
    for whole, found in ((ahead, waited[:26]), (ahead[stop + 1 :], waited[26:])):
        for (kind, loss, image), (its, other, picture) in zip(whole, found, strict=True):
            assert (kind, loss) == (its, other)
            assert torch.equal(image, picture)


@pytest.mark.parametrize(("loss", "gradient"), [(math.nan, 1), (math.inf, 1), (1, math.inf)])
def test_what_is_not_heard_yet_is_of_iterates_alone(loss: float, gradient: float) -> None:
    """A run counts on it when it goes on; evaluations that fail are none of its totals."""
    good, counted, heard = curved(uniform(0.3, 0.7)), 0, []

    def evaluate(image: Tensor) -> Evaluation:
        nonlocal counted
        counted += 1
        found = good(image)
        if counted != 5:
            return found
        terms = replace(found.terms, total=found.terms.total * loss)
        return Evaluation(terms, found.gradient * gradient)

    def note(total: float) -> bool:
        heard.append(total)
        return False

    iterates = minimise_on_device(
        evaluate, uniform(0, 1, seed=1), iterations=14, stepwise=True, note=note
    )
    for shown, iterate in enumerate(iterates, start=1):
        unheard = saved(iterate).tensors["unheard"]
        assert unheard.isfinite().all()
        assert len(heard) + len(unheard) == shown


def test_a_resumed_run_knows_the_best_of_its_precision() -> None:
    """bfloat16 finds lower losses, and those of float32 are not compared with them."""
    good = curved(uniform(0.3, 0.7))

    class Mixed:
        def __init__(self, done: int = 0) -> None:
            self.done = done

        def __call__(self, image: Tensor) -> Evaluation:
            self.done += 1
            found, early = good(image), self.done <= 5
            terms = Terms(found.terms.total * (0.01 if early else 1), {}, {}, found.terms.tv)
            return Evaluation(terms, found.gradient, "bf16" if early else "fp32")

        def note(self, total: float) -> bool:
            del total
            return self.done == 5

    settings = {"iterations": 9, "history_size": 3, "stepwise": True}
    whole, states = [], []
    evaluate = Mixed()
    start = uniform(0, 1, seed=1)
    for iterate in minimise_on_device(evaluate, start, **settings, note=evaluate.note):
        whole.append((iterate.precision, iterate.is_best, iterate.best.clone()))
        states.append(saved(iterate))
    assert [precision for precision, *_ in whole] == ["bf16"] * 5 + ["fp32"] * 5
    assert sum(is_best for _, is_best, _ in whole[5:]) > 1
    # what a checkpoint takes: finite numbers alone
    assert all(
        bool(t.isfinite().all())
        for s in states
        for t in s.tensors.values()
        if t.is_floating_point()
    )
    for k in (2, 4, 5, 7):
        evaluate = Mixed(k + 1)
        rest = minimise_on_device(
            evaluate, torch.zeros_like(start), **settings, note=evaluate.note, resume=states[k]
        )
        for it, expected in zip(rest, whole[k + 1 :], strict=True):
            assert (it.precision, it.is_best) == expected[:2]
            assert torch.equal(it.best, expected[2])
