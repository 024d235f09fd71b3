"""An evaluation has the same bits for any number of threads, whatever the objective is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fastnst.engines.planned.cpu import NativeEngine
from fastnst.engines.strips.engine import StripEngine
from fastnst.engines.strips.native import TILES, NativeEvaluator
from fastnst.network.weights import Weights
from fastnst.strips.geometry import Grid
from helpers.kernels import needs_native
from helpers.strips import CONTROLS, objective, spacing_of

HEIGHT, WIDTH = 203, 199  # more than torch leaves to one thread, which is 32768 values; and odd


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_native
@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("control", ["gram", "mean-std", "regions"])
def test_so_has_one_with_normalised_gradients(
    random_weights: Weights, control: str, norm: str
) -> None:
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        further = {"gradient_norm": norm}
        it, image = objective(random_weights, HEIGHT, WIDTH, control, torch.float32, **further)
        evaluation = NativeEngine(it).evaluate(image)
        found.append((float(evaluation.terms.total), evaluation.gradient.clone()))
    for total, gradient in found[1:]:
        assert total == found[0][0]
        assert torch.equal(gradient, found[0][1])


@needs_native
@pytest.mark.parametrize("control", CONTROLS)
def test_an_evaluation_has_the_same_bits_for_any_number_of_threads(
    random_weights: Weights, control: str
) -> None:
    """In one piece and in strips, the targets and the maps of regions made anew each time."""
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        it, image = objective(random_weights, HEIGHT, WIDTH, control, torch.float32)
        grid = Grid.cut(HEIGHT, WIDTH, spacing_of(it, (TILES["fp32"],)), 96)
        whole = NativeEngine(it).evaluate(image)
        strips = StripEngine(NativeEvaluator(it), grid).evaluate(image)
        found.append([(float(x.terms.total), x.gradient.clone()) for x in (whole, strips)])
        assert torch.get_num_threads() == threads
    for other in found[1:]:
        for (total, gradient), (expected, first) in zip(other, found[0], strict=True):
            assert total == expected
            assert torch.equal(gradient, first)
