"""Evaluations that several ranks share: those of one, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fastnst.engines.strips.exchange import ExchangingEvaluator
from fastnst.engines.torch_engine import TorchEngine
from fastnst.ops import convolution, extension
from fastnst.ranks.protocol import Alone, Neighbours
from fastnst.strips.geometry import Grid, Span, Tile
from helpers import ranks_work
from helpers.kernels import needs_native
from helpers.networks import made_of_noise
from helpers.ranks import on_ranks
from helpers.ranks_work import WIDTH
from helpers.strips import CONTROLS, objective, spacing_of

NATIVE = ["gram", "nine-point", "regions", "covariance"]
CASES = [("float32", ["squared"])]
if extension.is_available():
    CASES += [("native", NATIVE), ("exchanging", list(CONTROLS))]
HEIGHT = 227  # four bands of 48 rows and one of 35 on Winograd's grid
SOME = ["average", "l2", "replicate", "content alone", "several statistics", "regions", "squared"]


@pytest.mark.parametrize(("kind", "controls"), CASES)
def test_any_number_of_ranks_finds_the_same_bits(kind: str, controls: list[str]) -> None:
    one = ranks_work.evaluations(controls, HEIGHT, kind)
    for ranks in {"native": (2, 3, 4), "exchanging": (2, 3, 4)}.get(kind, (3,)):
        found = on_ranks(ranks, ranks_work.evaluations, controls, HEIGHT, kind)
        for index, control in enumerate(controls):
            for rank in found:
                assert rank[index][0] == one[index][0], control
            gradient = torch.cat([rank[index][1] for rank in found], -2)
            assert torch.equal(gradient, one[index][1]), control


def test_shared_evaluations_are_exact() -> None:
    """Against the whole picture by autograd, in float64."""
    found = on_ranks(2, ranks_work.evaluations, SOME, 69, "float64")
    for index, control in enumerate(SOME):
        it, image = objective(made_of_noise(), 69, WIDTH, control, torch.float64)
        expected = TorchEngine(it).evaluate(image)
        gradient = torch.cat([rank[index][1] for rank in found], -2)
        # Float64: rounding of up to five layers, twice, and of sums in another order.
        assert found[0][index][0][0] == pytest.approx(float(expected.terms.total), rel=1e-12)
        error = (gradient - expected.gradient).norm() / expected.gradient.norm()
        assert float(error) <= 1e-12


def test_an_evaluation_takes_three_communications_of_known_size() -> None:
    """Rows of the halo in both directions, twice, and one sum, which the width has no part in."""
    (one,) = zip(*on_ranks(3, ranks_work.evaluations, ["squared"], HEIGHT, "float32"), strict=True)
    grid = ranks_work.engine_of("squared", HEIGHT, "float32")[0].grid
    halo = grid.rows[0].high - grid.rows[0].stop
    channels = (64, 128, 256)  # of relu1_1, relu2_1 and relu3_1
    # Upper triangles in two integers for each entry, and one that says whether all is well.
    integers = sum(2 * (n * (n + 1) // 2 + 1) for n in channels)
    scalars = len(grid.rows) * 2  # content loss and total variation
    total = 2 * 2 * 8 * (integers + scalars + 1) // 3
    for rank, (_, _, sent, calls) in enumerate(one):
        neighbours = 2 if rank == 1 else 1
        assert sent == 2 * neighbours * halo * WIDTH * 3 * 4 + total
        assert calls == 3


@needs_native
def test_exchanged_rows_of_features_are_of_known_size() -> None:
    """A row of the picture, of what each convolution reads on either way, of signs, and a sum."""
    given = ["average"], HEIGHT, "exchanging"
    (one,) = zip(*on_ranks(3, ranks_work.evaluations, *given), strict=True)
    half, quarter = WIDTH // 2, WIDTH // 4
    forward = 64 * WIDTH + (64 + 128) * half + 128 * quarter  # relu1_1, pool1, relu2_1, pool2
    # The gradients at conv3_1, at conv2_2, whose ReLU a content loss reads, and conv2_1, at pool1
    # with a sign of each feature before it, and at conv1_1.
    back, signs = 256 * quarter + (128 + 128 + 64) * half + 64 * WIDTH, 64 * WIDTH // 8
    grid = ranks_work.engine_of("average", HEIGHT, "exchanging")[0].grid
    integers = sum(2 * (n * (n + 1) // 2 + 1) for n in (64, 128, 256))
    total = 2 * 2 * 8 * (integers + len(grid.rows) * 2 + 1) // 3
    for rank, (_, _, sent, calls) in enumerate(one):
        neighbours = 2 if rank == 1 else 1
        assert sent == neighbours * (4 * (3 * WIDTH + forward + back) + signs) + total
        assert calls == 1 + 4 + 6 + 1


class Unhurried(Alone):
    """The rank between two others, whose rows come as zeros, when it waits for them."""

    def __init__(self, log: list[str]) -> None:
        super().__init__(joined=True)
        self.rank, self.ranks, self.log = 1, 3, log

    def begin_exchange(self, above: Tensor, below: Tensor) -> Callable[[], Neighbours]:
        self.log.append("rows are sent")

        def arrival() -> Neighbours:
            self.log.append("rows have come")
            return torch.zeros_like(above), torch.zeros_like(below)

        return arrival


@needs_native
@pytest.mark.parametrize("bands", [2, 3])
def test_rows_that_read_no_neighbours_are_computed_while_those_are_on_their_way(
    monkeypatch: pytest.MonkeyPatch, bands: int
) -> None:
    """A rank of two bands between others has no such rows; of three it has those of one."""
    it, _ = objective(made_of_noise(), 9 * 48, WIDTH, "average", torch.float32)
    grid = Grid.cut(9 * 48, WIDTH, spacing_of(it, (6,)).exchanging(), 48)
    log: list[str] = []
    convolve = convolution.convolve

    def noted(*given: Any, rows: slice, **further: Any) -> None:
        log.append(f"{rows.stop - rows.start} rows")
        convolve(*given, rows=rows, **further)

    monkeypatch.setattr(convolution, "convolve", noted)
    evaluator = ExchangingEvaluator(it, communication=Unhurried(log))
    rows = Span(0, 3 * 48, (3 + bands) * 48, 2 * 48, (4 + bands) * 48, 9 * 48)
    piece = Tile(0, rows, grid.columns[0], exchanges=True)
    first, last = piece.read
    evaluator.forward(torch.rand(1, 3, last - first, WIDTH), piece)
    sent, come = "rows are sent", "rows have come"
    inner = {2: [96, 48, 48, 24], 3: [48, 24, 24, 12]}[bands]  # conv1_2, conv2_1, conv2_2, conv3_1
    expected: list[str] = [sent]
    for rows_there in inner:
        expected += {
            2: [come, f"{rows_there} rows", sent],
            3: [f"{rows_there} rows", come, *(2 * [f"{rows_there} rows"]), sent],
        }[bands]
    assert log == expected[:-1]  # nobody reads the rows of the last layer


def test_too_many_ranks_for_a_picture() -> None:
    said = on_ranks(3, ranks_work.attempt, 40)
    size = f"{WIDTH}×40"
    assert set(said) == {
        f"3 ranks are too many: a picture of {size} pixels has 2 bands of rows, for 2 ranks at most"
    }
