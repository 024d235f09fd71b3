"""Which convolutions are fused: what is tried, when, and what is made of the answer.

No GPU is needed: cuDNN's answer is given by the test.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fastnst.engines.planned import cudnn


@pytest.fixture
def filters() -> cudnn.Filters:
    torch.manual_seed(0)
    return cudnn.arrange_filters(torch.randn(4, 3, 3, 3), torch.randn(4), torch.float32)


@pytest.fixture
def choice(monkeypatch: pytest.MonkeyPatch) -> cudnn.FusedChoice:
    clock = {"fused": 1.0, "separate": 2.0}
    order: list[str] = []

    def seconds(work: Callable[[], Tensor]) -> float:
        del work
        order.append("separate" if order and order[-1] == "fused" else "fused")
        return clock[order[-1]]

    monkeypatch.setattr(cudnn, "_seconds", seconds)
    monkeypatch.setattr(cudnn, "fused", right)
    made = cudnn.FusedChoice()
    made.clock = clock  # type: ignore[attr-defined]
    return made


def right(x: Tensor, filters: cudnn.Filters, padding: int) -> Tensor:
    return cudnn.convolve(x, filters.forward, filters.bias, padding).relu()


def without_bias(x: Tensor, filters: cudnn.Filters, padding: int) -> Tensor:
    return cudnn.convolve(x, filters.forward, None, padding).relu()


def reads_its_output(x: Tensor, filters: cudnn.Filters, padding: int) -> Tensor:
    """As an engine that adds 0 · z, with z the memory of its output: NaN becomes 0 in ReLU."""
    y = right(x, filters, padding)
    z = torch.full_like(y, torch.nan)  # what was poisoned
    return torch.where((y + 0 * z).isnan(), 0, y)


def absent(x: Tensor, filters: cudnn.Filters, padding: int) -> Tensor:
    raise RuntimeError("GET was unable to find an engine to execute this computation")


@pytest.mark.parametrize(
    ("engine", "expected"),
    [(right, True), (without_bias, False), (reads_its_output, False), (absent, False)],
)
def test_what_errs_or_fails_is_not_used(
    choice: cudnn.FusedChoice,
    filters: cudnn.Filters,
    monkeypatch: pytest.MonkeyPatch,
    engine: Callable,
    expected: bool,
) -> None:
    monkeypatch.setattr(cudnn, "fused", engine)
    x = torch.randn(1, 3, 7, 5)
    assert choice.fuses(x, filters, 1) is expected
    assert torch.equal(choice.run(x, filters, 1), right(x, filters, 1))


@pytest.mark.parametrize(("seconds", "expected"), [(1.7, True), (2.3, True), (7.0, False)])
def test_only_a_far_slower_way_is_not_used(
    choice: cudnn.FusedChoice, filters: cudnn.Filters, seconds: float, expected: bool
) -> None:
    """Three passes take 2.0: which of two nearly as quick ways is taken must not be chance."""
    choice.clock["fused"] = seconds  # type: ignore[attr-defined]
    assert choice.fuses(torch.randn(1, 3, 7, 5), filters, 1) is expected


def test_every_shape_and_tf32_is_tried_by_itself(
    choice: cudnn.FusedChoice, filters: cudnn.Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[torch.Size] = []

    def engine(x: Tensor, filters: cudnn.Filters, padding: int) -> Tensor:
        tried.append(x.shape)
        return right(x, filters, padding)

    monkeypatch.setattr(cudnn, "fused", engine)
    small, large = torch.randn(1, 3, 7, 5), torch.randn(1, 3, 9, 5)
    for allowed in (True, False):
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=allowed):
            for x in (small, large, small):
                choice.fuses(x, filters, 1)
    assert len(choice.known) == 4
    assert set(tried) == {small.shape, large.shape}


def test_memory_that_ran_out_says_nothing_of_the_engine(
    choice: cudnn.FusedChoice, filters: cudnn.Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    def engine(x: Tensor, filters: cudnn.Filters, padding: int) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    x = torch.randn(1, 3, 7, 5)
    monkeypatch.setattr(cudnn, "fused", engine)
    assert not choice.fuses(x, filters, 1)
    assert not choice.known
    monkeypatch.setattr(cudnn, "fused", right)
    assert choice.fuses(x, filters, 1)
    monkeypatch.setattr(cudnn, "fused", engine)
    with pytest.raises(torch.OutOfMemoryError):
        choice.run(x, filters, 1)
    assert choice.known  # still the same


def test_nothing_is_tried_while_a_graph_is_recorded(
    choice: cudnn.FusedChoice, filters: cudnn.Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(1, 3, 7, 5)
    monkeypatch.setattr(cudnn, "_capturing", lambda: True)
    assert not choice.fuses(x, filters, 1)
    assert not choice.known
    monkeypatch.setattr(cudnn, "_capturing", lambda: False)
    assert choice.fuses(x, filters, 1)
    monkeypatch.setattr(cudnn, "_capturing", lambda: True)
    assert choice.fuses(x, filters, 1)  # what is known is used


def test_what_fails_later_falls_back(
    choice: cudnn.FusedChoice, filters: cudnn.Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(1, 3, 7, 5)
    assert choice.fuses(x, filters, 1)
    monkeypatch.setattr(cudnn, "fused", absent)
    assert torch.equal(choice.run(x, filters, 1), right(x, filters, 1))
    assert not choice.fuses(x, filters, 1)


def test_on_a_cpu_nothing_is_tried(filters: cudnn.Filters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudnn, "fused", absent)
    x = torch.randn(1, 3, 7, 5)
    assert torch.equal(cudnn.convolve_relu(x, filters), right(x, filters, 1))
