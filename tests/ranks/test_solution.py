"""Solvers whose picture several ranks share: any number of ranks takes the same path."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fastnst.engines.torch_engine import TorchEngine
from fastnst.ops import extension
from fastnst.solvers.minimise import minimise
from fastnst.solvers.spectral import BANDS
from helpers import ranks_work
from helpers.networks import made_of_noise
from helpers.ranks import on_ranks
from helpers.ranks_work import WIDTH
from helpers.strips import objective

HEIGHT = 227  # four bands of 48 rows and one of 35 on Winograd's grid
# Of each band: content loss and total variation; five products, four with each of 3 + 1 pairs.
NUMBERS = 2 + 5 + 4 * (3 + 1)
KIND = "native" if extension.is_available() else "float32"


def joined(found: list[dict[str, Any]], what: str) -> torch.Tensor:
    return torch.cat([rank[what] for rank in found], -2)


@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral", "adam"])
def test_any_number_of_ranks_makes_the_same_picture(optimizer: str) -> None:
    one = ranks_work.solution(optimizer, HEIGHT, KIND, 20, None)
    assert one["losses"][-1] < 0.7 * one["losses"][0]
    for ranks in (3,) if optimizer == "adam" else (2, 3, 4):
        found = on_ranks(ranks, ranks_work.solution, optimizer, HEIGHT, KIND, 20, None)
        for rank in found:
            assert rank["losses"] == one["losses"]
        for what in ("image", "best"):
            assert torch.equal(joined(found, what), one[what])
        assert found[0]["state"].difference(one["state"]) is None


@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral", "adam"])
def test_the_path_is_that_of_the_whole_picture(optimizer: str) -> None:
    it, image = objective(made_of_noise(), 69, WIDTH, "squared", torch.float64)
    whole = minimise(
        TorchEngine(it).evaluate, image, iterations=20, history_size=3, optimizer=optimizer
    )
    losses = [iterate.loss for iterate in whole]
    found = on_ranks(2, ranks_work.solution, optimizer, 69, "float64", 20, None)
    # Float64 sums in another order; each step amplifies what is different.
    assert found[0]["losses"][:6] == pytest.approx(losses[:6], rel=1e-12)
    assert found[0]["losses"] == pytest.approx(losses, rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "averaging"), [("lbfgs", 0.0), ("spectral", 0.0), ("adam", 0.5)]
)
def test_another_number_of_ranks_goes_on_bit_for_bit(optimizer: str, averaging: float) -> None:
    given = optimizer, HEIGHT, KIND, 9
    whole = ranks_work.solution(*given, None, averaging)
    saved = on_ranks(4, ranks_work.solution, *given, None, averaging, 5)[0]["state"]
    for ranks in (1, 3):
        found = on_ranks(ranks, ranks_work.solution, *given, saved, averaging)
        assert torch.equal(joined(found, "image"), whole["image"])
        assert found[0]["losses"] == whole["losses"][6:]


def test_an_iteration_takes_four_communications_of_known_size() -> None:
    """Rows of the halo, twice; sums over positions; inner products of the solver."""
    costs, grids = {}, {}
    for height in (69, 131):
        first, second = on_ranks(2, ranks_work.solution, "lbfgs", height, "float32", 6)
        assert first["costs"] == second["costs"]
        (sent, calls), (sent_later, calls_later) = first["costs"][-2:]
        assert calls_later - calls == 4
        grid = grids[height] = ranks_work.engine_of("squared", height, "float32")[0].grid
        halo = grid.rows[0].high - grid.rows[0].stop
        channels = (64, 128, 256)  # of relu1_1, relu2_1 and relu3_1
        # Upper triangles in two integers for each entry, and one that says whether all is well.
        integers = sum(2 * (n * (n + 1) // 2 + 1) for n in channels)
        scalars = len(grid.rows) * NUMBERS
        # A number with each sum says whether anyone wants to stop. A ring of two sends all once.
        costs[height] = 2 * halo * WIDTH * 3 * 4 + 8 * (integers + scalars + 2)
        assert sent_later - sent == costs[height]
    # The rows of the halo apart, a higher picture costs a few numbers for each band.
    further = len(grids[131].rows) - len(grids[69].rows)
    assert further > 1
    assert costs[131] - costs[69] == 8 * NUMBERS * further


def test_an_iteration_of_spectral_sends_its_spectra() -> None:
    """Four transforms and five further sums."""
    found = on_ranks(2, ranks_work.solution, "spectral", 69, "float32", 6)
    grid = ranks_work.engine_of("squared", 69, "float32")[0].grid
    halo, bands = grid.rows[0].high - grid.rows[0].stop, len(grid.rows)
    integers = sum(2 * (n * (n + 1) // 2 + 1) for n in (64, 128, 256))
    # Norms of the gradient and of the step; three products; two with each of the pairs.
    pairs = len(found[0]["state"].numbers["spectral.pairs.order"])
    assert pairs > 1
    numbers = 2 + 2 + 3 + 2 * pairs + 3 * 3 * BANDS
    half = WIDTH // 2 + 1
    for rank, solution in enumerate(found):
        (sent, calls), (sent_later, calls_later) = solution["costs"][-2:]
        assert calls_later - calls == 2 + 7 + 4
        mine = grid.share(rank, 2)
        rows = sum(grid.rows[band].owned_length for band in mine)
        columns = (mine.stop * half // bands) - (mine.start * half // bands)
        # complex64 in three colours: three transforms forward, one back
        spectra = 3 * 8 * (3 * rows * (half - columns) + columns * (69 - rows))
        sums = 8 * (integers + bands * numbers + 7)
        assert sent_later - sent == 2 * halo * WIDTH * 3 * 4 + sums + spectra
