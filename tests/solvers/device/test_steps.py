"""An iteration of L-BFGS in the kernels against the same in PyTorch's operators and float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from fastnst.solvers.device.memory import (
    ACCEPTED,
    EVALUATIONS,
    FAILED,
    SLOT,
    USED,
    SolverMemory,
)
from fastnst.solvers.device.steps import KernelSteps, Steps, TorchSteps
from helpers.cuda_emulator.library import NEEDED, Emulator, in_place_of_a_gpu, shared_library
from helpers.functions import uniform

pytestmark = NEEDED


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    compiled = shared_library()
    with in_place_of_a_gpu(compiled):
        yield compiled


def rounded_pairs(steps: TorchSteps) -> None:
    """Keep the pairs as the kernels do: in eight bits, 64 values to a scale."""
    n = steps.pairs.shape[2]
    padded = torch.nn.functional.pad(steps.pairs, (0, -n % 64)).unflatten(2, (-1, 64))
    scale = padded.abs().amax(3, keepdim=True) / 127
    whole = (padded / scale.clamp(min=1e-300)).round()
    steps.pairs.copy_((whole * scale).flatten(2)[..., :n])


def run(
    make: Callable[[SolverMemory], Steps],
    start: Tensor,
    evaluate: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    iterations: int,
    history: int,
) -> tuple[SolverMemory, list[Tensor]]:
    """The pictures of a whole run."""
    memory = SolverMemory(start, history, (0.0, 1.0), 3)
    memory.expect_terms(2)
    steps = make(memory)
    pictures = []
    for iteration in range(iterations):
        gradient, losses = evaluate(memory.image, iteration)
        steps.take(gradient.flatten(), losses)
        if isinstance(steps, TorchSteps):
            rounded_pairs(steps)
        slot = iteration % memory.capacity
        assert torch.equal(memory.ring_images[slot], memory.image[0])
        pictures.append(memory.image.clone())
        steps.first(scaled=True)
        steps.second()
        assert int(memory.counters[EVALUATIONS]) == iteration + 1
    return memory, pictures


def quadratic(target: Tensor, bad: int = -1) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    weights = torch.logspace(0, 1.3, target.numel(), dtype=torch.float64).view_as(target)

    def evaluate(image: Tensor, iteration: int) -> tuple[Tensor, Tensor]:
        w, t = weights.to(image.dtype), target.to(image.dtype)
        loss = (w * (image - t) ** 2).sum()
        gradient = 2 * w * (image - t)
        if iteration == bad:
            loss = loss * math.nan
        return gradient, torch.stack([loss, loss / 2])

    return evaluate


@pytest.mark.parametrize("history", [1, 4, 40])
@pytest.mark.parametrize("bad", [-1, 6])
def test_the_kernels_walk_the_path_of_the_operators(
    emulator: Emulator, history: int, bad: int
) -> None:
    """Short histories go round; along bounds; over a failure, after which all starts afresh."""
    del emulator
    target = uniform(-0.3, 1.3)
    start = uniform(0, 1, seed=1)
    evaluate = quadratic(target, bad)
    wide, expected = run(TorchSteps, start.double(), evaluate, 14, history)
    memory, found = run(KernelSteps, start.float(), evaluate, 14, history)
    for index, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        # float32 against float64: a pair's numbers round to 8 bits otherwise now and then, one
        # part in 127 of one value of a step
        torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=2e-3, msg=f"{index}")
    assert torch.equal(memory.counters, wide.counters)
    assert torch.equal(memory.flags, wide.flags)
    torch.testing.assert_close(memory.numbers, wide.numbers, rtol=0.05, atol=1e-6)
    used = int(memory.counters[USED])
    assert used == min(history, int(wide.counters[USED])) > 0
    assert memory.row[0] < (start.double() - target.double()).square().sum()


def test_one_iteration_to_the_last_digits(emulator: Emulator) -> None:
    """From the same state, every number that an iteration leaves."""
    del emulator
    target, start = uniform(0.2, 0.8), uniform(0, 1, seed=2)
    evaluate = quadratic(target)
    memories = []
    for make, dtype in ((TorchSteps, torch.float64), (KernelSteps, torch.float32)):
        memory, _ = run(make, start.to(dtype), evaluate, 3, 5)
        memories.append(memory)
    exact, ours = memories
    assert not ours.flags[[FAILED, ACCEPTED]].any()
    assert int(ours.counters[SLOT]) == 2
    for name in ("inverse", "diagonal", "products", "u", "gradient", "step", "direction"):
        a, b = getattr(exact, name), getattr(ours, name).double()
        # three steps of float32, each of some sums of 1e-7; u is a difference of such
        assert float((a - b).norm()) <= 1e-3 * float(a.norm()), name


def test_a_step_that_is_not_a_number_stays_one(emulator: Emulator) -> None:
    """So that the next evaluation fails, and not a picture of zeros takes its place."""
    del emulator
    memory = SolverMemory(uniform(0, 1).float(), 2, (0.0, 1.0), 1)
    memory.expect_terms(1)
    steps = KernelSteps(memory)
    steps.take(torch.ones(memory.image.numel()), torch.ones(1))
    steps.first(scaled=True)
    memory.direction[5] = math.nan
    steps.second()
    assert memory.image.flatten()[5].isnan()
