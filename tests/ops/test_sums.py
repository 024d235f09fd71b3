"""Sums over pictures against float64, at sizes and in layouts where float32 sums go wrong."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.ops import extension, sums
from helpers.kernels import ISAS, needs_native

# The stretch of the kernels and of PyTorch's way, a slab of the latter, and what is no multiple.
SIZES = [1, 31, 32, 33, 16383, 16384, 16385, 100_003, 256 * 16384 + 5]
# Terms are exact in float64, and so are 2^27 of them but for their last ten digits or so.
TOLERANCE = 1e-12


@pytest.fixture(params=["native", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of summing."""
    name: str = request.param
    if name == "torch":
        monkeypatch.setattr(extension, "_C", None)
    elif not ISAS:
        pytest.skip("no extension")
    return name


def pair(size: int) -> tuple[Tensor, Tensor]:
    """Positive numbers, whose rounding errors all add up in one direction where sums are naive."""
    generator = torch.Generator().manual_seed(size)
    return torch.rand(size, generator=generator) + 0.1, torch.rand(size, generator=generator)


def exact(x: Tensor) -> float:
    return math.fsum(x.double().tolist()) if x.numel() < 10**6 else float(x.double().sum())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("way")
def test_sums_agree_with_float64(size: int) -> None:
    x, y = pair(size)
    signed = x - 0.6
    assert float(sums.dot(x, y)) == pytest.approx(exact(x.double() * y.double()), rel=TOLERANCE)
    assert float(sums.norm1(signed)) == pytest.approx(exact(signed.abs()), rel=TOLERANCE)
    assert float(sums.norm2(signed)) == pytest.approx(
        exact(signed.double().square()) ** 0.5, rel=TOLERANCE
    )
    difference = (x - y).double()
    assert float(sums.squared_distance(x, y)) == pytest.approx(
        exact(difference.square()), rel=TOLERANCE
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("way")
def test_products_of_rows_agree_with_float64(size: int) -> None:
    rows, x = torch.stack(pair(size)), pair(size + 1)[0][:size]
    found = sums.products(rows, x)
    assert found.dtype == torch.float64
    for row, product in zip(rows, found.tolist(), strict=True):
        assert product == pytest.approx(exact(row.double() * x.double()), rel=TOLERANCE)
    twice = sums.products(rows.double(), x.double())
    torch.testing.assert_close(twice, found, rtol=TOLERANCE, atol=0)


@pytest.mark.usefixtures("way")
def test_no_values_are_zero() -> None:
    assert float(sums.dot(torch.empty(0), torch.empty(0))) == 0
    assert float(sums.norm1(torch.empty(2, 0, 3))) == 0


@pytest.mark.usefixtures("way")
def test_layouts_are_summed_position_by_position() -> None:
    x, y = (z.view(2, 3, 5, 7) for z in pair(210))
    expected = float((x.double() * y.double()).sum())
    last = y.to(memory_format=torch.channels_last)
    sparse = torch.zeros(2, 3, 5, 14)[..., ::2].copy_(y)
    for a, b in (
        (x, last),
        (last, x),
        (x.to(memory_format=torch.channels_last), last),
        (x, sparse),
    ):
        assert float(sums.dot(a, b)) == pytest.approx(expected, rel=TOLERANCE)
    assert float(sums.norm1(sparse)) == pytest.approx(float(y.double().sum()), rel=TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    x, y = (z.to(dtype) for z in pair(20_001))
    assert sums.dot(x, y).dtype == torch.float64
    assert float(sums.dot(x, y)) == pytest.approx(exact(x.double() * y.double()), rel=TOLERANCE)


def test_infinite_and_undefined_values_stay_so(way: str) -> None:
    x = torch.ones(20_000)
    x[19_999] = math.inf
    assert float(sums.norm1(x)) == math.inf
    x[3] = math.nan
    assert math.isnan(float(sums.norm1(x)))
    assert math.isnan(float(sums.squared_norm(x)))


@pytest.mark.usefixtures("way", "threads")
def test_the_same_bits_for_any_number_of_threads() -> None:
    x, y = pair(2_000_003)
    found = []
    for count in (1, 2, 3, 4):
        torch.set_num_threads(count)
        found.append(
            [float(s) for s in (sums.dot(x, y), sums.norm1(x), sums.squared_distance(x, y))]
        )
    assert found.count(found[0]) == 4


@pytest.mark.parametrize("shape", [(40, 20_000), (2, 70_000), (3, 700_003)])
@pytest.mark.usefixtures("way", "threads")
def test_products_of_rows_have_the_same_bits_for_any_number_of_threads(
    shape: tuple[int, int],
) -> None:
    rows, x = (z.view(shape) for z in pair(shape[0] * shape[1]))
    found = []
    for count in (1, 2, 3, 4):
        torch.set_num_threads(count)
        found.append(sums.products(rows, x[0]).tolist())
    assert found.count(found[0]) == 4


@needs_native
def test_the_same_bits_for_every_instruction_set() -> None:
    x, y = pair(100_003)
    found = []
    for isa in ISAS:
        with extension.use_isa(isa):
            found.append([float(s) for s in (sums.dot(x, y), sums.squared_distance(x, y))])
    assert found.count(found[0]) == len(ISAS)


def test_what_does_not_fit_together_is_refused() -> None:
    x = torch.ones(3)
    with pytest.raises(
        InvalidInput, match=r"y: expected torch.float32 \(3,\) on cpu, got .* \(4,\)"
    ):
        sums.dot(x, torch.ones(4))
    with pytest.raises(InvalidInput, match="y: expected torch.float32"):
        sums.squared_distance(x, torch.ones(3, dtype=torch.float64))
    with pytest.raises(InvalidInput, match="x: expected floating point, got torch.int64"):
        sums.norm1(torch.ones(3, dtype=torch.int64))


@pytest.mark.slow  # 50 million values, four times
@needs_native
def test_sixteen_megapixels() -> None:
    x, y = pair(3 * 4096 * 4096)
    parts = list(zip(x.split(2**22), y.split(2**22), strict=True))
    expected = sum(float((a.double() * b.double()).sum()) for a, b in parts)
    assert float(sums.dot(x, y)) == pytest.approx(expected, rel=TOLERANCE)
    expected = sum(float(a.double().sum()) for a, _ in parts)
    assert float(sums.norm1(x)) == pytest.approx(expected, rel=TOLERANCE)
