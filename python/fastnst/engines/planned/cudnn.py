"""3×3 convolutions on a GPU by cuDNN, with bias and ReLU in the same pass where that pays.

``cudnn_convolution_relu`` is one pass, ``conv2d`` and ReLU are three. But which of cuDNN's engines
answers the first is cuDNN's choice: some read the output before it was written, some are many times
slower. So it is tried, for each shape as it comes, on memory full of NaN, and timed; and where it
fails later after all, the other way is taken from then on.

The two round otherwise in bfloat16, and a run that another process resumes must choose as this one
did. So only an engine that is far slower is refused: no run of the clock decides between ways that
take nearly as long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

TRIES = 3  # runs that are timed, after one that is not
# As many times the three passes' time is too slow. On an H200 one pass took 0.36 to 0.87 of it
# (benchmarks/results/nvidia-h200.checks.jsonl, stage ``plans``).
TOO_SLOW = 3.0
# bfloat16 and TF32 round at 2⁻⁸ and 2⁻¹¹; another formula would be off by order 1
LARGEST_ERROR = 0.02


@dataclass(frozen=True)
class Filters:
    """A convolution's filters, channels_last, in the type in which it is computed.

    Attributes:
        forward: ``(Co, Ci, 3, 3)``.
        backward: Flipped and transposed, ``(Ci, Co, 3, 3)``.
        bias: ``(Co,)``.
    """

    forward: Tensor
    backward: Tensor
    bias: Tensor


def arrange_filters(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Filters:
    """Filters ``(Co, Ci, 3, 3)`` and bias ``(Co,)`` for both directions."""
    last = torch.channels_last
    back = weight.flip(2, 3).transpose(0, 1)
    forward, backward = (w.to(dtype).contiguous(memory_format=last) for w in (weight, back))
    return Filters(forward, backward, bias.to(dtype))


class _SamePlans:
    """Switches ``torch.backends.cudnn.benchmark`` off, for all threads, while any needs that."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Let cuDNN choose by rules: a race may end otherwise in a resumed run."""
        with self._lock:
            if not self._inside:
                self._before = torch.backends.cudnn.benchmark
                torch.backends.cudnn.benchmark = False
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    torch.backends.cudnn.benchmark = self._before


same_plans = _SamePlans()


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 1) -> Tensor:
    """W ∗ x + b, channels_last."""
    y = functional.conv2d(x, weight, bias, 1, padding)
    return y.contiguous(memory_format=torch.channels_last)


def convolve_relu(x: Tensor, filters: Filters, padding: int = 1) -> Tensor:
    """max(0, W ∗ x + b), in one pass where cuDNN does it right and not far slower."""
    if x.device.type != "cuda":
        return separate(x, filters, padding)
    return CHOICE.run(x, filters, padding)


def separate(x: Tensor, filters: Filters, padding: int) -> Tensor:
    """max(0, W ∗ x + b) in three passes."""
    return convolve(x, filters.forward, filters.bias, padding).relu_()


def fused(x: Tensor, filters: Filters, padding: int) -> Tensor:
    """max(0, W ∗ x + b) in one pass, if cuDNN has such an engine."""
    pads, one = [padding, padding], [1, 1]
    y: Tensor = torch.cudnn_convolution_relu(x, filters.forward, filters.bias, one, pads, one, 1)
    return y


Key = tuple[torch.device, torch.dtype, torch.Size, torch.Size, int, str]


class FusedChoice:
    """Which convolutions are fused.

    Attributes:
        known: What was found, by device, dtype, shapes, padding and TF32.
    """

    def __init__(self) -> None:
        self.known: dict[Key, bool] = {}

    def run(self, x: Tensor, filters: Filters, padding: int) -> Tensor:
        """max(0, W ∗ x + b), in the better way."""
        if not self.fuses(x, filters, padding):
            return separate(x, filters, padding)
        try:
            return fused(x, filters, padding)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            if _capturing():
                raise  # the capture is lost
            self.known[_key(x, filters, padding)] = False
            return separate(x, filters, padding)

    def fuses(self, x: Tensor, filters: Filters, padding: int) -> bool:
        """Whether this convolution is to be fused; it is tried unless a graph is being recorded."""
        key = _key(x, filters, padding)
        if key not in self.known:
            if _capturing():
                return False
            try:
                self.known[key] = _pays(x, filters, padding)
            except torch.OutOfMemoryError:
                return False  # that says nothing of the engine: it is tried again
        return self.known[key]


CHOICE = FusedChoice()


def _key(x: Tensor, filters: Filters, padding: int) -> Key:
    tf32 = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    return x.device, x.dtype, x.shape, filters.forward.shape, padding, tf32


def _capturing() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def _pays(x: Tensor, filters: Filters, padding: int) -> bool:
    """Whether the fused convolution of x is right on any memory, and not far slower."""
    expected = separate(x, filters, padding).float()
    size = torch.linalg.vector_norm(expected)
    for _ in range(2):
        _poison(expected)
        try:
            found = fused(x, filters, padding).float()
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return False
        error = torch.linalg.vector_norm(found - expected)
        if not bool(error <= LARGEST_ERROR * size):  # NaN is not
            return False
    one_pass = _seconds(lambda: fused(x, filters, padding))
    return one_pass <= TOO_SLOW * _seconds(lambda: separate(x, filters, padding))


def _poison(like: Tensor) -> None:
    """Leave NaN in the memory that torch hands out next, of either size of element."""
    junk = [torch.full_like(like, torch.nan, dtype=kind) for kind in (torch.float32, like.dtype)]
    junk.append(torch.full_like(like, torch.nan, dtype=torch.bfloat16))
    del junk


def _seconds(work: Callable[[], Tensor]) -> float:
    """Seconds of one run by the GPU's own clock: the shortest of ``TRIES``."""
    work()
    times: list[float] = []
    for _ in range(TRIES):
        begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return min(times)
