"""The rows of a history in the dtype of the pictures: products in double, whatever the threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fastnst.ops import buffers, extension
from fastnst.solvers.history import BandedRows
from fastnst.solvers.vectors import Placement
from fastnst.strips.geometry import Spacing, spans


@pytest.fixture(autouse=True)
def _without_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep the rows in eight bits."""
    monkeypatch.setattr(buffers, "unavailable_reason", lambda like: "there is none")
    monkeypatch.setattr(extension, "_C", None)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def picture(height: int, width: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Positive values, whose products' rounding errors add up in one direction."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((1, 3, height, width), generator=generator).to(dtype)


def stored(
    count: int, height: int, width: int, placement: Placement, dtype: torch.dtype = torch.float32
) -> tuple[BandedRows, Tensor]:
    """So many rows, and what they are, float64."""
    x = [picture(height, width, seed, dtype) for seed in range(count)]
    rows = BandedRows(count, x[0], placement)
    for row, values in enumerate(x):
        rows.store(row, [view.reshape(-1) for view in placement.views(values)])
    return rows, torch.cat(x).flatten(1).double()


@pytest.mark.parametrize("bands", [(), spans(900, 200, Spacing(4, 4))])
def test_products_are_those_of_float64(bands) -> None:
    """At 3 million values, where products in float32 are off by 1e-5."""
    placement = Placement(bands)
    rows, held = stored(2, 900, 1100, placement)
    x = picture(900, 1100, 7)
    found = rows.products(2, [view.reshape(-1) for view in placement.views(x)])
    expected = held @ x.flatten().double()
    assert found.dtype == torch.float64
    # float64: rounding in sums of a few million terms
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("count", [3, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bands", [(), spans(131, 64, Spacing(4, 4))])
@pytest.mark.usefixtures("threads")
def test_threads_change_no_bit(count: int, dtype: torch.dtype, bands) -> None:
    """Ranks share the threads of a machine, so that each has others."""
    placement = Placement(bands)
    rows, _ = stored(count, 131, 173, placement, dtype)
    weights = torch.linspace(-1, 2, count, dtype=torch.float64)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        out = [view.reshape(-1).clone() for view in placement.views(picture(131, 173, 7, dtype))]
        products = rows.products(count, out)
        rows.add_combination(weights, out)
        results.append((products, torch.cat(out)))
    for products, out in results[1:]:
        assert torch.equal(products, results[0][0])
        assert torch.equal(out, results[0][1])
