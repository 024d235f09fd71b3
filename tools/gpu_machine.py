"""The machine that ``gpu_check.py`` looks at, and what its stages compare by."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gpu_check import Point
from torch import Tensor

# Largest errors, of the norm: float32 rounds at 2^-24 and sums up to 4608 terms, TF32 at 2^-11 and
# bfloat16 at 2^-8 each factor; up to 13 layers add up.
ERRORS = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 3e-2}


@dataclass
class Where:
    """The machine that is looked at.

    Attributes:
        device: The GPU, or the CPU in a dry run.
        dry: Whether the kernels run in the emulator, at small sizes.
        out: Folder of results.
        machine: Its name, to tell results of different machines apart.
        ends: When the limit of the command is over, by ``time.monotonic``.
        bandwidth: Bytes per second that a copy moves, measured when it is first wanted.
    """

    device: torch.device
    dry: bool
    out: Path
    machine: str
    ends: float = math.inf
    bandwidth: float = field(default=0.0)

    def wait(self) -> None:
        """Until all that was launched is done; errors of kernels come out here."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def time(
        self, work: Callable[[], object], repeats: int = 20, *, recorded: bool = True
    ) -> float:
        """Seconds of one run by the GPU's own events, over several; 0 in a dry run.

        Args:
            work: What to time.
            repeats: How often.
            recorded: Replay it as a CUDA graph, as an iteration is: the host takes some 20 µs to
                launch a kernel, which is longer than most of them run. False: as it is called.
        """
        if self.dry:
            work()
            return 0.0
        work()

        def repeated() -> None:
            for _ in range(repeats):
                work()

        # without torch's pool nothing can be recorded, since memory is given back at once
        if recorded and not os.environ.get("PYTORCH_NO_CUDA_MEMORY_CACHING"):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                repeated()
            graph.replay()
            repeated = graph.replay
        else:
            repeated()
        begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        begin.record()
        repeated()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / repeats

    def copies(self) -> float:
        """Bytes per second that a large copy reads and writes."""
        if not self.bandwidth and not self.dry:
            a = torch.empty(2**28, dtype=torch.uint8, device=self.device)
            b = torch.empty_like(a)
            self.bandwidth = 2 * a.numel() / self.time(lambda: b.copy_(a))
        return self.bandwidth


@contextlib.contextmanager
def where(*, dry: bool, out: Path, ends: float = math.inf) -> Iterator[Where]:
    """The machine; in a dry run the emulator takes the GPU's place while it lasts."""
    if not dry:
        if not torch.cuda.is_available():
            raise SystemExit("no GPU that torch sees; --dry-run looks at the logic without one")
        name = torch.cuda.get_device_name()
        yield Where(torch.device("cuda", torch.cuda.current_device()), False, out, name, ends)
        return
    library = importlib.import_module("helpers.cuda_emulator.library")
    if shutil.which("g++") is None:
        raise SystemExit("a dry run compiles the kernels for the CPU: g++ is not on the path")
    with library.in_place_of_a_gpu(library.shared_library()):
        yield Where(torch.device("cpu"), True, out, f"dry run on {platform.machine()}", ends)


def near(found: Tensor, truth: Tensor, error: float, **figures: Any) -> Point:
    """Whether the norm of the difference is at most ``error`` of the norm of the truth."""
    distance = float((found.double() - truth).norm())
    size = float(truth.norm())
    off = distance / size if size else distance
    holds = bool(found.isfinite().all()) and off <= error
    return Point(holds, f"off by {off:.2e}, at most {error:.0e}", {"error": off, **figures})


def last(x: Tensor) -> Tensor:
    """The features in channels_last."""
    return x.contiguous(memory_format=torch.channels_last)


def random(at: Where, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers between 0.1 and 1.1, the same for the same shape."""
    generator = torch.Generator(at.device).manual_seed(sum(shape))
    return (torch.rand(shape, generator=generator, device=at.device) + 0.1).to(dtype)


def pictures(at: Where, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Content, style and a picture to start from, ``(1, 3, size − 7, size)`` each."""
    made = importlib.import_module("helpers.engines").pictures(size, size - 7)
    content, style, image = (x.to(at.device) for x in made)
    return content, style, image
