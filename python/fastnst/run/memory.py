"""How much memory a run will need, estimated before it starts."""

from __future__ import annotations

import contextlib
import gc
import os
import traceback
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import torch

from fastnst.errors import InvalidInput
from fastnst.run.footprint import Footprint, footprint
from fastnst.run.pieces import cuts
from fastnst.settings.settings import Settings
from fastnst.strips.budget import amount, choose_grid
from fastnst.strips.geometry import Grid

# Bytes per pixel of a style picture while its statistics are computed: the features of the style
# layers, and those of conv1_1 and conv1_2 on the way.
STYLE_BYTES = 1400
SMALLEST = 16  # the least long side that a message proposes: one position at relu5_1
SHARE = 0.9  # of the memory that there is, which a run may take: estimates are true to 15 %
FEW_PAIRS = 10  # curvature pairs that serve well enough where memory is short


def estimate(
    width: int,
    height: int,
    settings: Settings,
    style_pixels: int = 0,
    device: torch.device | None = None,
    grid: Grid | None = None,
) -> int:
    """Bytes that a run takes at its peak, on top of what the process has already.

    Args:
        width: Width of the result (at its largest scale) in pixels.
        height: Height of the result in pixels.
        settings: The settings of the run.
        style_pixels: Pixels of the largest style picture, whose features are gone before the
            optimisation begins.
        device: The device that it runs on; None: the CPU.
        grid: How the picture is cut; None: not at all.
    """
    pixels, takes = width * height, _footprint(settings, device, width, height)
    if grid is None or grid.is_whole:
        return max(takes.whole(pixels), style_pixels * STYLE_BYTES)
    return takes.in_pieces(pixels, grid.largest[0] * grid.largest[1])


def _footprint(
    settings: Settings, device: torch.device | None, width: int, height: int
) -> Footprint:
    last = (settings.scale_iterations or (settings.iterations,))[-1]
    iterations = settings.iterations if settings.min_size is None else last
    pairs = 1 if settings.optimizer == "adam" else min(settings.history_size, iterations)
    return footprint(settings, device or torch.device("cpu"), pairs, width, height)


def plan(
    width: int,
    height: int,
    settings: Settings,
    device: torch.device,
    style_pixels: int = 0,
    limit: int | None = None,
) -> Grid | None:
    """How to cut a picture so that a run fits: the larger the pieces, the less is computed twice.

    Args:
        width: Width of the result (at its largest scale) in pixels.
        height: Height of the result in pixels.
        settings: The settings of the run.
        device: The device that it runs on.
        style_pixels: Pixels of the largest style picture.
        limit: Bytes that the run may take; None: what is free.

    Returns:
        None if the run fits as a whole.

    Raises:
        InvalidInput: if it does not fit in pieces either, with a size and, where that helps, a
            number of curvature pairs that does.
    """
    free = available(device)
    known = [number for number in (free, limit) if number is not None]
    budget = int(SHARE * min(known)) if known else None
    needed = estimate(width, height, settings, style_pixels, device)
    if budget is None or needed <= budget:
        return None
    reason = _no_pieces(settings, device)
    if reason is not None:
        _refuse(width, height, settings, device, style_pixels, budget, reason)
    takes = _footprint(settings, device, width, height)
    left = budget - takes.picture * width * height - takes.fixed_in_pieces
    try:
        return choose_grid(height, width, takes.piece, left, cuts(settings, device))
    except InvalidInput:
        _refuse(width, height, settings, device, style_pixels, budget, None)


def _no_pieces(settings: Settings, device: torch.device) -> str | None:
    """Why a picture cannot be computed in pieces, or None if it can."""
    if settings.engine == "onnx":
        return "engine onnx computes no strips"
    if device.type != "cpu":
        return f"there are no strips on {device.type} yet"
    if settings.gradient_norm != "none":
        return f"gradient_norm {settings.gradient_norm} needs the whole picture at once"
    if not (settings.content_weight or settings.style_weight):
        return "it has no loss on the network"
    return None


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
    width: int,
    height: int,
    settings: Settings,
    device: torch.device,
    style_pixels: int = 0,
    limit: int | None = None,
) -> None:
    """Refuse a run that does not fit, even in strips; the arguments are those of ``plan``.

    Raises:
        InvalidInput: with the need, what may be taken, and a size that fits.
    """
    plan(width, height, settings, device, style_pixels, limit)


def _refuse(
    width: int,
    height: int,
    settings: Settings,
    device: torch.device,
    style_pixels: int,
    budget: int,
    whole: str | None,
) -> NoReturn:
    """Say that a run does not fit, and what would.

    Args:
        width: As for ``plan``, like those that follow.
        height: Height of the result.
        settings: The settings of the run.
        device: Where it runs.
        style_pixels: Pixels of the largest style picture.
        budget: Bytes that it may take.
        whole: Why it cannot be computed in strips; None: it can, but does not fit.
    """
    needed = estimate(width, height, settings, style_pixels, device)
    why = "" if whole is None else f" ({whole})"
    if whole is not None and estimate(width, height, settings, device=device) <= budget:
        raise InvalidInput(
            f"a style picture of {style_pixels / 1e6:.1f} megapixels when scaled needs about "
            f"{amount(needed)} of memory and {amount(budget)} are free{why}; "
            "use a smaller --style-size or --style-scale"
        )
    takes = _footprint(settings, device, width, height)
    if whole is not None:
        fits = _side(width, height, 0.9 * budget, takes.fixed, takes.piece + takes.picture)
    else:
        needed = _least(width, height, settings, device)
        longest = max(width, height)

        def least(side: int) -> int:
            scaled = (max(1, round(n * side / longest)) for n in (width, height))
            return _least(next(scaled), next(scaled), settings, device)

        sides = range(SMALLEST, max(SMALLEST + 1, longest))
        fits = sides[max(0, bisect_right(sides, SHARE * budget, key=least) - 1)]
    fewer = ""
    if settings.optimizer != "adam" and settings.history_size > FEW_PAIRS:
        fewer = f", or --history-size {FEW_PAIRS}"
    raise InvalidInput(
        f"a {width}×{height} picture needs about {amount(needed)} of memory and "
        f"{amount(budget)} are free{why}; use --size {fits} or less{fewer}"
    )


def _least(width: int, height: int, settings: Settings, device: torch.device) -> int:
    """Bytes that a picture takes in the smallest pieces, or whole if that is less."""
    takes, spacing = _footprint(settings, device, width, height), cuts(settings, device)
    rows, columns = (spacing.largest(spacing.smallest, n) for n in (height, width))
    pixels = width * height
    return min(takes.whole(pixels), takes.in_pieces(pixels, rows * columns))


def _side(width: int, height: int, budget: float, fixed: float, each: float) -> int:
    """The long side of a picture of these proportions that fits.

    Args:
        width: Width of a picture that does not fit.
        height: Its height.
        budget: Bytes.
        fixed: Bytes whatever the size.
        each: Bytes for each pixel.
    """
    pixels = max(0.0, budget - fixed) / each
    side = max(width, height) * min(1.0, pixels / (width * height)) ** 0.5
    return max(SMALLEST, int(side))


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
    takes = _footprint(settings, device, width, height)
    each = takes.piece + takes.picture
    fits = _side(width, height, 0.8 * min(free, needed), takes.fixed, each)
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
