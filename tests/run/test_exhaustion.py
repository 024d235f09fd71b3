"""Memory that runs out in the middle of a run."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

import fastnst
from fastnst import InvalidInput
from fastnst.run import available, preparation
from fastnst.run.exhaustion import enough
from fastnst.run.memory import Need, estimate
from fastnst.run.planning import make_plan
from fastnst.settings.settings import Settings
from helpers.pictures import smooth

CONTENT, STYLE = smooth(48, 36), smooth(40, 44, seed=1)


def test_memory_that_runs_out_is_an_error_with_a_size_that_fits(monkeypatch) -> None:
    settings = Settings(size=512)

    def out_of_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(available, "available", lambda device: 2**34)
    monkeypatch.setattr(preparation, "create_engine", out_of_memory)
    with pytest.raises(InvalidInput, match=r"cpu ran out of memory with a 512×384") as caught:
        fastnst.stylize(CONTENT, STYLE, size=512)
    assert "\n" not in str(caught.value)
    assert int(str(caught.value).split("--size ")[1].split()[0]) < 512
    needed = estimate(Need(2048, 1536, settings))
    monkeypatch.setattr(available, "available", lambda device: needed // 2)
    with (
        pytest.raises(InvalidInput, match="ran out of memory") as caught,
        enough(2048, 1536, settings, torch.device("cpu")),
    ):
        out_of_memory()
    fits = int(str(caught.value).split("--size ")[1].split()[0])
    assert estimate(Need(fits, fits * 3 // 4, settings)) < needed // 2


@pytest.mark.parametrize(
    ("fields", "hint"), [({}, True), ({"gradient_norm": "l2"}, False), ({"engine": "onnx"}, False)]
)
def test_strips_are_proposed_where_they_would_fit(
    fields: dict[str, str], hint: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(available, "available", lambda device: 2**34)
    settings = Settings(**fields)
    with (
        pytest.raises(InvalidInput, match="ran out of memory") as caught,
        enough(4096, 3072, settings, torch.device("cpu")),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    said = str(caught.value)
    assert ("for strips" in said) == hint
    if hint:
        limit = int(said.split("--memory ")[1].split("MB")[0]) * 10**6
        assert make_plan(Need(4096, 3072, settings), limit).strips > 1


@pytest.mark.parametrize("share", [0.25, 0.4, 0.55, 0.7, 0.85, 1.0])
def test_the_memory_that_is_proposed_is_enough(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    need = Need(2048, 1536, Settings(iterations=100))
    monkeypatch.setattr(available, "available", lambda device: int(share * need.whole()))
    with (
        pytest.raises(InvalidInput, match="ran out of memory") as caught,
        enough(2048, 1536, need.settings, torch.device("cpu")),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    said = str(caught.value)
    if "--memory" in said:
        make_plan(need, int(said.split("--memory ")[1].split("MB")[0]) * 10**6)


def test_a_recording_that_ran_out_of_memory_says_so_too() -> None:
    def record() -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    with (
        pytest.raises(InvalidInput, match="ran out of memory"),
        enough(64, 64, Settings(), torch.device("cpu")),
    ):
        record()


def too_much() -> None:
    torch.empty(2**50)


def too_many_numbers() -> None:
    np.empty(2**50)


@pytest.mark.parametrize("take", [too_much, too_many_numbers])
def test_main_memory_that_cannot_be_had_is_said_too(take: Callable[[], None]) -> None:
    """PyTorch has no error of its own for it, and NumPy's is no RuntimeError."""
    with (
        pytest.raises(InvalidInput, match="cpu ran out of memory with a 64×64 picture"),
        enough(64, 64, Settings(), torch.device("cpu")),
    ):
        take()


def test_what_a_run_held_that_ran_out_of_memory_is_freed() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def run() -> None:
        tensor = torch.ones(1000)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory")

    error = None
    try:
        with enough(64, 64, Settings(), torch.device("cpu")):
            run()
    except InvalidInput as caught:
        error = caught  # a caller may keep it, in a batch's report say
    assert error is not None
    assert held[0]() is None


def test_other_errors_pass() -> None:
    for error in (RuntimeError("cuDNN error"), fastnst.BackendUnavailable("no"), ValueError("x")):
        with (
            pytest.raises(type(error), match=str(error)) as caught,
            enough(64, 64, Settings(), torch.device("cpu")),
        ):
            raise error
        assert caught.value is error
