"""How much memory there is: the system's, that of containers, and a GPU's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fastnst.errors import BackendUnavailable
from fastnst.run import available


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
    assert available._group_memory(tmp_path, tmp_path / "self") == [50, 400]
    (tmp_path / "self").write_text("1:cpu:/x\n0::/a\n")
    assert available._group_memory(tmp_path, tmp_path / "self") == [400]
    group(tmp_path, "a", "100", 700)
    assert available._group_memory(tmp_path, tmp_path / "self") == [0]
    assert available._group_memory(tmp_path, tmp_path / "missing") == []
    (tmp_path / "self").write_text("1:memory:/x\n")  # version 1
    assert available._group_memory(tmp_path, tmp_path / "self") == []


def test_the_smallest_limit_counts(monkeypatch) -> None:
    monkeypatch.setattr(available, "_system_memory", lambda: 700)
    monkeypatch.setattr(available, "_group_memory", lambda *paths: [900, 500])
    assert available.available(torch.device("cpu")) == 500
    monkeypatch.setattr(available, "_system_memory", lambda: None)
    monkeypatch.setattr(available, "_group_memory", lambda *paths: [])
    assert available.available(torch.device("cpu")) is None


def test_what_torch_has_cached_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run before this one leaves its memory in torch's cache, where the next finds it."""
    answers = {
        "mem_get_info": (3 * 2**30, 8 * 2**30),
        "memory_reserved": 4 * 2**30,
        "memory_allocated": 2**30,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, a=answer: a)
    assert available.available(torch.device("cuda", 0)) == 6 * 2**30


def test_a_gpu_that_others_have_all_of_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: torch.device) -> tuple[int, int]:
        raise torch.AcceleratorError("CUDA error: out of memory\nand how to look for it")

    monkeypatch.setattr(torch.cuda, "mem_get_info", refuse)
    with pytest.raises(BackendUnavailable) as caught:
        available.available(torch.device("cuda", 0))
    assert str(caught.value) == "device cuda:0 cannot be used: CUDA error: out of memory"


def test_large_blocks_go_back_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """By glibc's M_MMAP_THRESHOLD, -3 in malloc.h, unless the user has said something of it."""
    asked: list[tuple[int, int]] = []
    libc = SimpleNamespace(mallopt=lambda name, value: asked.append((name, value)))
    monkeypatch.setattr(available.ctypes, "CDLL", lambda _: libc)
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    available.return_large_blocks()
    assert asked == [(-3, 2**20)]
    monkeypatch.setattr(available.ctypes, "CDLL", lambda _: SimpleNamespace())
    available.return_large_blocks()  # another C library
    monkeypatch.setattr(available.ctypes, "CDLL", lambda _: libc)
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
    available.return_large_blocks()
    assert len(asked) == 1
