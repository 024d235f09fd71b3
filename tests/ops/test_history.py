"""Rows in eight bits, and their products and sums, against float64, on every ISA."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.ops import extension, history
from fastnst.ops.history import BLOCK, CompressedRows
from fastnst.solvers.history import BandedRows
from fastnst.solvers.minimise import minimise
from fastnst.solvers.vectors import PLAIN, Placement
from fastnst.strips.storage import ScratchStore
from helpers.functions import curved
from helpers.kernels import needs_native

pytestmark = needs_native

LENGTHS = [1, 2, 63, 64, 65, 4095, 4096, 4097, 10_001]
FLOAT32 = 2.0**-24


@pytest.fixture(params=extension.available_isas() if extension.is_available() else [], autouse=True)
def isa(request: pytest.FixtureRequest):
    with extension.use_isa(request.param):
        yield


def vectors(count: int, length: int, seed: int = 0) -> Tensor:
    """Of very different sizes along each, as steps and changes of a gradient are."""
    generator = torch.Generator().manual_seed(seed)
    sizes = 10 ** torch.linspace(-6, 2, length)
    return torch.randn(count, length, generator=generator) * sizes[torch.randperm(length)]


def stored(x: Tensor) -> tuple[CompressedRows, Tensor]:
    """The rows, and what they hold in float64."""
    rows = CompressedRows(len(x), x.shape[1])
    for i in reversed(range(len(x))):
        rows.store(i, x[i])
    values = rows.values.double().unflatten(-1, (-1, BLOCK)) * rows.scales[..., None].double()
    return rows, values.transpose(0, 1).flatten(1)[:, : x.shape[1]]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_value_is_rounded_by_half_a_step_of_its_block(length: int) -> None:
    x = vectors(3, length)
    _, held = stored(x)
    padded = torch.nn.functional.pad(x, (0, -length % BLOCK))
    largest = padded.unflatten(1, (-1, BLOCK)).abs().amax(2, keepdim=True)
    step = largest.expand(-1, -1, BLOCK).flatten(1)[:, :length].double() / 127
    # the scale and the quotient are rounded to float32: 127 of three such roundings each
    assert ((held - x).abs() <= step * (0.5 + 3 * 127 * FLOAT32)).all()
    assert (held - x).abs().max() > 0 or length < 3


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("used", [1, 4, 7, 9])
def test_products_and_sums(length: int, used: int) -> None:
    x = vectors(9, length)
    rows, held = stored(x)
    other = vectors(1, length, seed=1)[0]
    # at most 16 · 64 products are added one after another in float32, the rest in float64
    products = rows.products(used, other)
    size = held[:used].abs() @ other.double().abs()
    assert ((products - held[:used] @ other.double()).abs() <= 80 * FLOAT32 * size + 1e-300).all()

    weights = torch.linspace(-1, 2, used)
    out = other.clone()
    rows.add_combination(weights, out)
    expected = other.double() + weights.double() @ held[:used]
    size = other.double().abs() + weights.double().abs() @ held[:used].abs()
    assert ((out - expected).abs() <= (used + 3) * FLOAT32 * size).all()


def test_zeros_and_the_ends_of_the_range() -> None:
    x = torch.zeros(4, 200)
    x[1, 70] = 3e38
    x[2, 5] = -1.0
    x[3, 199] = 1e-35
    _, held = stored(x)
    torch.testing.assert_close(held, x.double(), rtol=3 * FLOAT32, atol=0)


def test_no_result_depends_on_the_number_of_threads() -> None:
    x, other = vectors(5, 30_000), vectors(1, 30_000, seed=1)[0]
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            rows, held = stored(x)
            out = other.clone()
            rows.add_combination(other[:5].contiguous(), out)
            found.append((held, rows.products(5, other), out))
    finally:
        torch.set_num_threads(before)
    for one in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(one, found[0], strict=True))


def test_nothing_beyond_the_rows_is_touched() -> None:
    """Room for three rows, between two guards."""
    rows = CompressedRows(3, 5000)
    chunks = rows.values.shape[0]
    values = torch.full((chunks + 2, 3, history.CHUNK), 77, dtype=torch.int8)
    scales = torch.full((chunks + 2, 3, history.CHUNK // BLOCK), 77.0)
    rows.values, rows.scales = values[1:-1], scales[1:-1]
    rows.store(1, vectors(1, 5000)[0])
    for whole in (values, scales):
        assert (whole[[0, -1]] == 77).all()
        assert (whole[1:-1, [0, 2]] == 77).all()
        assert not (whole[1:-1, 1] == 77).all()


@pytest.mark.parametrize("used", range(8))
def test_rows_are_saved_in_no_more_memory_than_that_of_all_rows(used: int) -> None:
    x = vectors(7, 5000)
    rows, _ = stored(x)
    kept = rows.values[:, :used].clone(), rows.scales[:, :used].clone()
    rows.values[:, used:], rows.scales[:, used:] = 77, float("nan")  # of steps given up
    saved = rows.tensors(used)
    copied = {
        k for k, v in saved.items() if v.data_ptr() not in {m.data_ptr() for m in rows.memory()}
    }
    count = saved["values"].shape[1]
    assert (count, copied) == ((used, {"values", "scales"}) if used < 4 else (7, set()))
    for found, its in zip(saved.values(), kept, strict=True):
        assert torch.equal(found[:, :used], its)
        assert not found[:, used:].any()
    other = CompressedRows(7, 5000)
    other.values.fill_(1)
    other.scales.fill_(1)
    other.restore(saved)
    for found, its in zip(other.tensors(used).values(), saved.values(), strict=True):
        assert torch.equal(found, its)


def test_rows_in_a_scratch_file_are_never_copied(tmp_path: Path) -> None:
    """There is no memory for a copy beside the file."""
    like = torch.zeros(1, 3, 40, 50)
    with ScratchStore(tmp_path) as store:
        rows = BandedRows(7, like, Placement(store=store))
        for row in range(2):
            rows.store(row, [vectors(1, 6000, seed=row)[0]])
        own = {x.data_ptr() for band in rows.bands for x in band.memory()}
        saved = rows.state(2)
        assert {x.data_ptr() for x in saved.tensors.values()} == own
        elsewhere = BandedRows(7, like, PLAIN)  # goes on with it, and saves it again as it was
        elsewhere.restore(saved)
        assert saved.difference(elsewhere.state(2)) is None
        few = BandedRows(7, like, PLAIN)
        few.store(0, [vectors(1, 6000)[0]])
        rows.restore(few.state(1))
        assert few.state(1).difference(rows.state(1)) is None
        rows.store(1, [vectors(1, 6000)[0]])  # and after that none is copied here either
        assert {x.data_ptr() for x in rows.state(2).tensors.values()} == own


@pytest.mark.parametrize("history_size", [5, 60])
def test_the_solver_gets_there_with_them(history_size: int) -> None:
    """A quadratic with condition number 1000, whose minimum is inside the range."""
    generator = torch.Generator().manual_seed(0)
    target = 0.2 + 0.6 * torch.rand(1, 3, 24, 40, generator=generator)
    start = torch.full_like(target, 0.5)
    losses = [
        [
            i.loss
            for i in minimise(curved(x), start.to(x), iterations=100, history_size=history_size)
        ]
        for x in (target, target.double())  # in eight bits; as they are
    ]
    assert losses[0][-1] < 1e-4 * losses[0][0]
    # an error of 1/254 in a pair changes a step by about as much, and so the way to the minimum
    assert min(losses[0][:50]) < 3 * min(losses[1][:50])


def test_what_does_not_fit_is_refused() -> None:
    rows = CompressedRows(3, 100)
    x = torch.zeros(100)
    for wrong in (lambda: rows.store(3, x), lambda: rows.store(-1, x), lambda: rows.products(4, x), lambda: rows.products(0, x),  # noqa: E501
                  lambda: rows.store(0, x.double()), lambda: rows.products(1, x[:99]),
                  lambda: rows.add_combination(torch.zeros(4), x),
                  lambda: rows.add_combination(torch.zeros(2), x[::2])):  # fmt: skip
        with pytest.raises(InvalidInput):
            wrong()


def test_without_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "_C", None)
    with pytest.raises(BackendUnavailable):
        CompressedRows(3, 100)
