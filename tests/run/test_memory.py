"""How much memory a run will need, how much there is, and what is said when it runs out."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch

import fastnst
from fastnst import InvalidInput
from fastnst.run import memory, prepare
from fastnst.settings.settings import Settings
from helpers.pictures import smooth

CONTENT, STYLE = smooth(48, 36), smooth(40, 44, seed=1)


def test_memory_is_estimated_by_size_and_history(monkeypatch) -> None:
    settings = Settings()
    sides = [memory.estimate(side, side, settings) for side in (256, 512, 1024)]
    # Beside the area, larger pictures have larger Winograd tiles.
    assert sides[2] - sides[1] == pytest.approx(4 * (sides[1] - sides[0]), rel=0.2)
    assert memory.estimate(256, 256, Settings(history_size=10)) < memory.estimate(
        256, 256, settings
    )
    monkeypatch.setattr(memory, "available", lambda device: 2**30)
    onnx = Settings(engine="onnx")  # which computes no strips
    with pytest.raises(InvalidInput, match=r"1024×768.*use --size (\d+) or less") as caught:
        memory.check(1024, 768, onnx, torch.device("cpu"))
    fits = int(str(caught.value).split("--size ")[1].split()[0])
    memory.check(fits, fits * 3 // 4, onnx, torch.device("cpu"))


def test_a_picture_that_does_not_fit_is_cut(monkeypatch) -> None:
    cpu, settings = torch.device("cpu"), Settings(history_size=10)
    monkeypatch.setattr(memory, "available", lambda device: 24 * 10**9)
    assert memory.plan(1024, 768, settings, cpu) is None
    grid = memory.plan(8192, 6144, settings, cpu)
    assert grid is not None
    assert len(grid.rows) > 1
    assert len(grid.columns) == 1
    assert memory.estimate(8192, 6144, settings, device=cpu, grid=grid) <= 24 * 10**9
    less = memory.plan(8192, 6144, settings, cpu, limit=20 * 10**9)
    assert less is not None
    assert less.largest[0] < grid.largest[0]


def test_what_does_not_fit_in_strips_names_what_does(monkeypatch) -> None:
    cpu, settings = torch.device("cpu"), Settings()
    monkeypatch.setattr(memory, "available", lambda device: 8 * 10**9)
    with pytest.raises(InvalidInput, match=r"--size (\d+) or less, or --history-size 10") as caught:
        memory.plan(8192, 6144, settings, cpu)
    assert "\n" not in str(caught.value)
    fits = int(str(caught.value).split("--size ")[1].split()[0])
    memory.plan(fits, fits * 3 // 4, settings, cpu)


@pytest.mark.parametrize("field", [{"gradient_norm": "l2"}, {"engine": "onnx"}])
def test_what_cannot_be_cut_says_why(monkeypatch, field) -> None:
    monkeypatch.setattr(memory, "available", lambda device: 4 * 10**9)
    with pytest.raises(InvalidInput, match=f"{next(iter(field)).split('_')[0]}.*use --size"):
        memory.plan(8192, 6144, Settings(**field), torch.device("cpu"))


def group(root: Path, name: str, limit: str, usage: int, cache: int = 0) -> None:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\n")


def test_the_limits_of_a_container_count(tmp_path: Path) -> None:
    group(tmp_path, "a", "1000", 700, 100)
    group(tmp_path, "a/b", "500", 450)
    group(tmp_path, "a/b/c", "max", 10)
    (tmp_path / "self").write_text("0::/a/b/c\n")
    assert memory._group_memory(tmp_path, tmp_path / "self") == [50, 400]
    (tmp_path / "self").write_text("1:cpu:/x\n0::/a\n")
    assert memory._group_memory(tmp_path, tmp_path / "self") == [400]
    group(tmp_path, "a", "100", 700)
    assert memory._group_memory(tmp_path, tmp_path / "self") == [0]
    assert memory._group_memory(tmp_path, tmp_path / "missing") == []
    (tmp_path / "self").write_text("1:memory:/x\n")  # version 1
    assert memory._group_memory(tmp_path, tmp_path / "self") == []


def test_the_smallest_limit_counts(monkeypatch) -> None:
    monkeypatch.setattr(memory, "_system_memory", lambda: 700)
    monkeypatch.setattr(memory, "_group_memory", lambda *paths: [900, 500])
    assert memory.available(torch.device("cpu")) == 500
    monkeypatch.setattr(memory, "_system_memory", lambda: None)
    monkeypatch.setattr(memory, "_group_memory", lambda *paths: [])
    assert memory.available(torch.device("cpu")) is None


def test_memory_that_runs_out_is_an_error_with_a_size_that_fits(monkeypatch) -> None:
    settings = Settings(size=512)

    def out_of_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(memory, "available", lambda device: 2**34)
    monkeypatch.setattr(prepare, "create_engine", out_of_memory)
    with pytest.raises(InvalidInput, match=r"cpu ran out of memory with a 512×384") as caught:
        fastnst.stylize(CONTENT, STYLE, size=512)
    assert "\n" not in str(caught.value)
    assert int(str(caught.value).split("--size ")[1].split()[0]) < 512
    needed = memory.estimate(2048, 1536, settings)
    monkeypatch.setattr(memory, "available", lambda device: needed // 2)
    with (
        pytest.raises(InvalidInput, match="ran out of memory") as caught,
        memory.enough(2048, 1536, settings, torch.device("cpu")),
    ):
        out_of_memory()
    fits = int(str(caught.value).split("--size ")[1].split()[0])
    assert memory.estimate(fits, fits * 3 // 4, settings) < needed // 2


def test_a_recording_that_ran_out_of_memory_says_so_too() -> None:
    def record() -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    with (
        pytest.raises(InvalidInput, match="ran out of memory"),
        memory.enough(64, 64, Settings(), torch.device("cpu")),
    ):
        record()


def test_what_torch_has_cached_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run before this one leaves its memory in torch's cache, where the next finds it."""
    answers = {
        "mem_get_info": (3 * 2**30, 8 * 2**30),
        "memory_reserved": 4 * 2**30,
        "memory_allocated": 2**30,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, a=answer: a)
    assert memory.available(torch.device("cuda", 0)) == 6 * 2**30


def test_what_a_run_held_that_ran_out_of_memory_is_freed() -> None:
    held: list[weakref.ref[torch.Tensor]] = []

    def run() -> None:
        tensor = torch.ones(1000)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory")

    error = None
    try:
        with memory.enough(64, 64, Settings(), torch.device("cpu")):
            run()
    except InvalidInput as caught:
        error = caught  # a caller may keep it, in a batch's report say
    assert error is not None
    assert held[0]() is None


def test_other_errors_pass() -> None:
    for error in (RuntimeError("cuDNN error"), fastnst.BackendUnavailable("no"), ValueError("x")):
        with (
            pytest.raises(type(error), match=str(error)) as caught,
            memory.enough(64, 64, Settings(), torch.device("cpu")),
        ):
            raise error
        assert caught.value is error
