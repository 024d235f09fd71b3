"""Vectors by band: the same path as whole, the same bits in a scratch file, states by band."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.evaluation import Evaluation, Terms
from fastnst.solvers import vectors
from fastnst.solvers.minimise import minimise
from fastnst.solvers.state import State
from fastnst.solvers.vectors import Placement
from fastnst.strips.geometry import Spacing, spans
from fastnst.strips.storage import MemoryStore, ScratchStore

HEIGHT, WIDTH = 37, 13
BANDS = spans(HEIGHT, 8, Spacing(4, 4))


def picture(seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((1, 3, HEIGHT, WIDTH), generator=generator, dtype=dtype)


def evaluate(x: Tensor) -> Evaluation:
    """A polynomial of degree four, whose minimum lies partly outside of [0, 1]."""
    away = x - 1.4 * picture(0, x.dtype) + 0.2
    weights = picture(1, x.dtype) + 0.1
    loss = (weights * away.square() + 0.3 * away**4).sum()
    return Evaluation(Terms(loss, {}, {}, loss.new_zeros(())), 2 * weights * away + 1.2 * away**3)


def path(placement: Placement, optimizer: str = "lbfgs", dtype=torch.float32, **further):
    start = picture(2, dtype)
    iterates = minimise(
        evaluate,
        start,
        iterations=9,
        history_size=3,
        optimizer=optimizer,
        placement=placement,
        **further,
    )
    return [(x.loss, x.image.clone(), x.state()) for x in iterates]


def test_bands_are_the_whole() -> None:
    x = picture(3)
    for bands in ((), spans(HEIGHT, HEIGHT, Spacing(4, 4)), BANDS):
        placement = Placement(bands)
        parts = [view.flatten() for view in placement.views(x)]
        assert len(parts) == max(1, len(bands))
        other = [2 * part for part in parts]
        # Double precision: a rounding for each of a few thousand terms.
        assert float(vectors.dot(parts, other)) == pytest.approx(
            2 * float(x.double().square().sum()), rel=1e-12
        )
        assert float(vectors.norm1(parts)) == pytest.approx(float(x.double().sum()), rel=1e-12)
        made = placement.vector(x)
        assert [part.shape for part in made] == [part.shape for part in parts]


def test_the_path_by_bands_is_that_of_the_whole() -> None:
    for a, b in zip(
        path(Placement(), dtype=torch.float64),
        path(Placement(BANDS), dtype=torch.float64),
        strict=True,
    ):
        # Sums in another order in float64, and ten steps that amplify their rounding.
        torch.testing.assert_close(a[1], b[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("optimizer", ["lbfgs", "spectral", "adam", "torch-lbfgs"])
@pytest.mark.parametrize("bands", [(), BANDS])
def test_a_scratch_file_changes_no_bit(tmp_path: Path, optimizer: str, bands) -> None:
    plain = path(Placement(bands), optimizer)
    with ScratchStore(tmp_path) as store:
        mapped = path(Placement(bands, store), optimizer)
        for (loss, image, _), (other, there, _) in zip(plain, mapped, strict=True):
            assert loss == other
            assert torch.equal(image, there)
        assert plain[-1][2].difference(mapped[-1][2]) is None
        assert store.size > 2 * image.numel() * 4  # the picture and the best at least
        del mapped, there
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bands", [(), BANDS])
def test_a_path_goes_on_from_a_state(bands) -> None:
    placement = Placement(bands)
    start = picture(2)
    iterates = minimise(evaluate, start, iterations=8, history_size=3, placement=placement)
    for iterate in iterates:
        if iterate.iteration == 5:
            state = iterate.state()
            saved = State(
                dict(state.numbers), {name: x.clone() for name, x in state.tensors.items()}
            )
        last = iterate.loss
    assert any(".band1." in name for name in saved.tensors) == bool(bands)
    again = list(
        minimise(evaluate, start, iterations=8, history_size=3, placement=placement, resume=saved)
    )
    assert again[-1].loss == last
    other = minimise(
        evaluate,
        start,
        iterations=8,
        history_size=3,
        placement=Placement(() if bands else BANDS),
        resume=saved,
    )
    with pytest.raises(InvalidInput, match="does not fit"):
        next(other)


def test_work_by_slabs_sees_every_value_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "SLAB", 50)
    for shape in ((), (0,), (7,), (130,), (3, 40), (1, 3, 17, 5), (2, 3, 1, 200)):
        x, y = torch.zeros(shape), torch.arange(1.0, 1 + torch.Size(shape).numel()).view(shape)

        def work(a: Tensor, b: Tensor) -> None:
            a += b

        vectors.by_slab(work, x, y)
        assert torch.equal(x, y)


def test_memory_is_that_of_the_store() -> None:
    class Counting(MemoryStore):
        made = 0
        released = 0

        def zeros(self, shape, dtype=torch.float32) -> Tensor:
            self.made += 1
            return super().zeros(shape, dtype)

        def release(self, tensor: Tensor) -> None:
            self.released += 1

    store = Counting()
    path(Placement(BANDS, store))
    # Image and best; of each band two vectors and, of s and y, values and scales.
    assert store.made == 2 + len(BANDS) * (2 + 4) or store.made == 2 + len(BANDS) * (2 + 2)
    assert store.released > 0
