"""A native run has the same bits for any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import fastnst
from helpers.kernels import needs_native


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


SHALLOW = {"content_layers": ("relu2_1",), "style_layers": ("relu1_1", "relu2_1", "relu3_1")}


# Larger than what torch leaves to one thread (32768 values), and odd. The total variation is a sum
# over the picture too; every iterate depends on the sums of those before it. All layers with one
# solver, and the other's own sums and transforms.
@needs_native
@pytest.mark.parametrize(("optimizer", "layers"), [("lbfgs", {}), ("spectral", SHALLOW)])
def test_a_run_has_the_same_bits_for_any_number_of_threads(
    optimizer: str, layers: dict[str, Any]
) -> None:
    def run(threads: int) -> fastnst.Result:
        torch.set_num_threads(threads)
        return fastnst.stylize(
            "sample:harbour",
            "sample:swirl",
            size=199,
            iterations=3,
            optimizer=optimizer,
            tv_weight=1.0,
            engine="native",
            **layers,
        )

    one = run(1)
    for threads in (2, 3, 4):
        other = run(threads)
        assert np.array_equal(one.pixels, other.pixels)
        assert [row.to_row() for row in one.history] == [row.to_row() for row in other.history]
