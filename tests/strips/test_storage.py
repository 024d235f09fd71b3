"""Tensors by band, in memory and in a scratch file."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastnst.strips.geometry import Spacing, spans
from fastnst.strips.storage import BandedTensor, MemoryStore, ScratchStore, Store

SPACING = Spacing(16, 16)


@pytest.fixture(params=["memory", "scratch"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else ScratchStore(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, torch.uint8, torch.float64])
def test_tensors_are_zeros_and_hold_what_is_written(store: Store, dtype: torch.dtype) -> None:
    with store:
        tensors = [store.zeros((3, n, 5), dtype) for n in (1, 700, 41)]
        assert all(t.dtype == dtype and t.is_contiguous() and not t.any() for t in tensors)
        for k, t in enumerate(tensors):
            t.fill_(k + 1)
            store.release(t)
        for k, t in enumerate(tensors):
            assert bool((t == k + 1).all())
            store.release(t[1:, ::2])  # a view


def test_an_empty_tensor(store: Store) -> None:
    with store:
        empty = store.zeros((0, 3))
        store.release(empty)
        assert empty.shape == (0, 3)


@pytest.mark.parametrize("level", [0, 3])
def test_banded_tensors_read_write_and_add(store: Store, level: int) -> None:
    with store:
        bands = spans(203, 32, SPACING)
        height, width = 203 >> level, 37
        stored = BandedTensor(store, bands, (1, 3), width, level=level)
        assert len(stored) == len(bands)
        assert stored.height == height
        want = torch.randn(1, 3, height, width)
        stored.write(slice(0, height), want)
        stored.release()
        stored.release_rows(slice(height // 4, height // 2))
        assert torch.equal(stored.whole(), want)
        for k, band in enumerate(bands):
            assert torch.equal(stored.band(k), want[..., band.owned(level), :])
            assert torch.equal(
                stored.read(band.computed(level)), want[..., band.computed(level), :]
            )
        more = torch.randn(1, 3, height // 2, 10)
        at = slice(height // 3, height // 3 + height // 2)
        stored.add(at, more, slice(5, 15))
        want[..., at, 5:15] += more
        assert torch.equal(stored.whole(), want)
        assert torch.equal(stored.read(at, slice(5, 15)), want[..., at, 5:15])
        stored.write(at, more, slice(5, 15))
        want[..., at, 5:15] = more
        assert torch.equal(stored.whole(), want)
        stored.fill(0.25)
        assert bool((stored.whole() == 0.25).all())


def test_the_file_has_no_name_while_it_is_used(tmp_path: Path) -> None:
    with ScratchStore(tmp_path) as store:
        tensor = store.zeros((1000, 1000))
        tensor.fill_(1)
        assert list(tmp_path.iterdir()) == []
        assert store.size >= 4_000_000


def test_a_tensor_of_another_store_is_refused(tmp_path: Path) -> None:
    with ScratchStore(tmp_path) as store:
        store.zeros((10,))
        with pytest.raises(ValueError, match="not in this scratch file"):
            store.release(torch.zeros(1 << 20))


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    # A limit on the size of files stands in for a disk that is full.
    program = f"""
import resource, signal, torch
from fastnst.errors import OutputFailed
from fastnst.strips.storage import ScratchStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
with ScratchStore({str(tmp_path)!r}) as store:
    kept = store.zeros((1000,)).fill_(2)
    try:
        store.zeros((1 << 20,))
    except OutputFailed as error:
        print(error)
    print(float(kept.sum()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line, kept = done.stdout.splitlines()
    assert line.startswith(f"scratch folder {tmp_path}: no space for 0.00 GB (")
    assert kept == "2000.0"


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_nothing_is_left_after_a_kill(tmp_path: Path) -> None:
    program = f"""
import os, signal
from fastnst.strips.storage import ScratchStore
store = ScratchStore({str(tmp_path)!r})
store.zeros((1 << 20,)).fill_(1)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program])
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads resident memory from /proc")
def test_walking_by_band_keeps_resident_memory_small(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
import torch
from fastnst.strips.geometry import Spacing, spans
from fastnst.strips.storage import BandedTensor, ScratchStore
def resident():
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) * 1024
with ScratchStore({str(tmp_path)!r}) as store:
    bands = spans(4096, 256, Spacing(16, 16))
    stored = BandedTensor(store, bands, (3,), 4096)  # 201 MB, 12.6 MB a band
    before, most = resident(), 0
    for turn in range(2):
        for k in range(len(bands)):
            stored.band(k).add_(k)
            most = max(most, resident())
            stored.release(k)
    assert all(float(stored.band(k)[0, 0, 0]) == 2 * k for k in range(len(bands)))
    print(most - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40e6  # three bands; all of them would be 201 MB
