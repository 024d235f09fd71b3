"""What is said when memory runs out in the middle of a run."""

from __future__ import annotations

import contextlib
import gc
import traceback
from collections.abc import Iterator

import torch

from fastnst.errors import MemoryRanOut
from fastnst.run import available, memory
from fastnst.run.planning import SHARE
from fastnst.run.refusal import least
from fastnst.run.shareable import no_pieces_reason
from fastnst.settings.settings import Settings

# What torch says in a RuntimeError of no kind of its own where main memory cannot be had.
MAIN_MEMORY = ("DefaultCPUAllocator", "std::bad_alloc")


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
        MemoryRanOut: where memory cannot be had: that of a GPU or main memory.
    """
    try:
        yield
        return
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        chain: BaseException | None = error
        while chain is not None:
            traceback.clear_frames(chain.__traceback__)
            chain = chain.__cause__ or chain.__context__
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    need = memory.Need(width, height, settings, device)
    free = available.available(device) or 0
    # The estimate was too low, or somebody else took what was free: leave a fifth.
    takes = need.footprint()
    left = max(0.0, 0.8 * min(free, need.whole()) - takes.fixed)
    each = (takes.whole(width * height) - takes.fixed) / (width * height)
    side = max(width, height) * min(1.0, left / each / (width * height)) ** 0.5
    fits = max(memory.SMALLEST, int(side))
    ways = [f"--size {fits} or less", "a smaller --history-size"]
    if no_pieces_reason(settings) is None and least(need, None, None) <= SHARE * left:
        limit = left + (available.LIBRARIES if device.type == "cpu" else 0)
        ways.insert(1, f"--memory {round(limit / 1e6)}MB for strips, or smaller ones")
    raise MemoryRanOut(
        f"{device} ran out of memory with a {width}×{height} picture; use {', or '.join(ways)}"
    )


def ran_out(error: BaseException | None) -> bool:
    """Whether this error is, or was caused by, memory that could not be had.

    Where the memory runs out while a CUDA graph is recorded, the end of the recording fails too.
    """
    while error is not None:
        if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
            return True
        if isinstance(error, RuntimeError) and any(word in str(error) for word in MAIN_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False
