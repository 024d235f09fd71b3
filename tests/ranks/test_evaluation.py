"""Evaluations that several ranks share: those of one, bit for bit."""

from __future__ import annotations

import pytest
import torch

from fastnst.engines.torch_engine import TorchEngine
from fastnst.ops import extension
from helpers import ranks_work
from helpers.kernels import needs_native
from helpers.networks import made_of_noise
from helpers.ranks import on_ranks
from helpers.ranks_work import WIDTH
from helpers.strips import CONTROLS, objective

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


def test_too_many_ranks_for_a_picture() -> None:
    said = on_ranks(3, ranks_work.attempt, 40)
    size = f"{WIDTH}×40"
    assert set(said) == {
        f"3 ranks are too many: a picture of {size} pixels has 2 bands of rows, for 2 ranks at most"
    }
