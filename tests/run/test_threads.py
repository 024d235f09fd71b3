"""A native run has the same bits for any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

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


# Larger than what torch leaves to one thread (32768 values), and odd. The total variation is a sum
# over the picture too; every iterate depends on the sums of those before it.
@needs_native
@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral"])
def test_a_run_has_the_same_bits_for_any_number_of_threads(optimizer: str) -> None:
    def run(threads: int) -> fastnst.Result:
        torch.set_num_threads(threads)
        return fastnst.stylize(
            "sample:harbour",
            "sample:swirl",
            size=199,
            iterations=4,
            optimizer=optimizer,
            tv_weight=1.0,
            engine="native",
        )

    one = run(1)
    for threads in (2, 3, 4):
        other = run(threads)
        assert np.array_equal(one.pixels, other.pixels)
        assert [row.to_row() for row in one.history] == [row.to_row() for row in other.history]
