"""How much memory a run will need, estimated before it starts."""

from __future__ import annotations

import contextlib
import gc
import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from fastnst.errors import InvalidInput
from fastnst.ops import extension
from fastnst.settings.settings import Settings

# Bytes per pixel of the result, float32, VGG-19 to relu5_1: features and their gradients. The peak
# of whole runs at 1024 px is 2700 with engine torch and 1500 with native (benchmarks, suite memory,
# less the pairs), which falls back to torch for objectives that it cannot evaluate; a third is
# added for what is fixed (weights, transformed filters) and for other settings.
FEATURE_BYTES = 3600
ONNX_FEATURE_BYTES = 5600  # the same for engine onnx: 4400 a pixel more from 512 to 1024 px
PAIR_BYTES = 2 * 3 * 4  # s and y of one curvature pair, float32; or both moments of Adam
COMPRESSED_PAIR_BYTES = 6.5  # in eight bits, a scale for every 64 values
# Bytes per pixel of a style picture while its statistics are computed: the features of the style
# layers, and those of conv1_1 and conv1_2 on the way.
STYLE_BYTES = 1400


def estimate(
    width: int,
    height: int,
    settings: Settings,
    style_pixels: int = 0,
    device: torch.device | None = None,
) -> int:
    """Bytes that a run takes at its peak, on top of what the process has already.

    Args:
        width: Width of the result (at its largest scale) in pixels.
        height: Height of the result in pixels.
        settings: The settings of the run.
        style_pixels: Pixels of the largest style picture, whose features are gone before the
            optimisation begins.
        device: The device that it runs on; None: the CPU.
    """
    last = (settings.scale_iterations or (settings.iterations,))[-1]
    iterations = settings.iterations if settings.min_size is None else last
    pairs = 1 if settings.optimizer == "adam" else min(settings.history_size, iterations)
    features = ONNX_FEATURE_BYTES if settings.engine == "onnx" else FEATURE_BYTES
    run = width * height * (features + pairs * _pair_bytes(settings, device))
    return max(round(run), style_pixels * STYLE_BYTES)


def _pair_bytes(settings: Settings, device: torch.device | None) -> float:
    on_cpu = device is None or device.type == "cpu"
    if on_cpu and extension.is_available() and settings.optimizer in ("lbfgs", "spectral"):
        return COMPRESSED_PAIR_BYTES
    return PAIR_BYTES


def available(device: torch.device) -> int | None:
    """Free bytes on the device, or None if the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + _cached(device)
    free = [_system_memory(), *_group_memory(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))]
    return min((number for number in free if number is not None), default=None)


def _cached(device: torch.device) -> int:
    """Bytes of a GPU that torch holds and no tensor uses: a run before this one has left them."""
    return torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _system_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return None


def _group_memory(mount: Path, membership: Path) -> list[int]:
    """Bytes that the limits of a container (cgroup v2) leave: its group's and those around it."""
    try:
        path = membership.read_text().split("0::/", 1)[1].splitlines()[0]
    except (OSError, IndexError):
        return []
    free = []
    for folder in (group := mount / path, *group.parents):
        try:
            limit = (folder / "memory.max").read_text().strip()
            usage = int((folder / "memory.current").read_text())
            statistics = dict(x.split() for x in (folder / "memory.stat").read_text().splitlines())
            cache = int(statistics["inactive_file"])  # file cache that is given up when needed
        except (OSError, ValueError, KeyError):
            continue
        if limit != "max":
            free.append(max(0, int(limit) - usage + cache))
    return free


def check(
    width: int, height: int, settings: Settings, device: torch.device, style_pixels: int = 0
) -> None:
    """Refuse a run that does not fit in the free memory; the arguments are those of ``estimate``.

    Raises:
        InvalidInput: with the need, what is free, and a size that fits.
    """
    free = available(device)
    needed = estimate(width, height, settings, style_pixels, device)
    if free is None or needed <= free:
        return
    if estimate(width, height, settings, device=device) <= free:
        raise InvalidInput(
            f"a style picture of {style_pixels / 1e6:.1f} megapixels when scaled needs about "
            f"{needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free; "
            "use a smaller --style-size or --style-scale"
        )
    fits = int(max(width, height) * (0.9 * free / needed) ** 0.5)
    raise InvalidInput(
        f"a {width}×{height} picture needs about {needed / 2**30:.1f} GiB of memory and "
        f"{free / 2**30:.1f} GiB are free; use --size {fits} or less"
    )


@contextlib.contextmanager
def enough(width: int, height: int, settings: Settings, device: torch.device) -> Iterator[None]:
    """Turn running out of memory, while the context lasts, into an error with a size that fits.

    Args:
        width: Width of the result (at its largest scale) in pixels.
        height: Height of the result in pixels.
        settings: The settings of the run.
        device: The device that it runs on.

    What the failed run held is freed, so that another can follow: its frames are cleared, which
    would keep their tensors for as long as the error is kept.

    Raises:
        InvalidInput: where torch raises ``torch.OutOfMemoryError``.
    """
    try:
        yield
        return
    except RuntimeError as error:
        if not _ran_out(error):
            raise
        chain: BaseException | None = error
        while chain is not None:
            traceback.clear_frames(chain.__traceback__)
            chain = chain.__cause__ or chain.__context__
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    needed = estimate(width, height, settings, device=device)
    free = available(device) or 0
    # The estimate was too low, or somebody else took what was free: leave a fifth.
    fits = int(max(width, height) * (0.8 * min(1.0, free / needed)) ** 0.5)
    raise InvalidInput(
        f"{device} ran out of memory with a {width}×{height} picture; "
        f"use --size {fits} or less, or a smaller --history-size"
    )


def _ran_out(error: BaseException | None) -> bool:
    """Whether this error is, or was caused by, memory that could not be had.

    Where the memory runs out while a CUDA graph is recorded, the end of the recording fails too.
    """
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False
