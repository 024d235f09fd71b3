"""The vectors of a solver: how they are cut into bands of rows, and in what memory they lie.

A vector holds one number for each value of the picture. It is a list with one flat tensor for each
band, so that whatever is done to it is done band by band. Sums over a vector are those of its
bands, in double, added in the bands' order: they depend on the bands, not on who computes them. A
process that holds some of the bands only would exchange these few numbers and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastnst.ops import sums
from fastnst.solvers.state import State
from fastnst.strips import storage
from fastnst.strips.geometry import Span
from fastnst.strips.storage import Store

Vector = list[Tensor]  # of each band the values (n_b,), contiguous

SLAB = 1 << 18  # values that are worked on together: they stay in a processor's cache


@dataclass(frozen=True)
class Placement:
    """Where vectors lie.

    Attributes:
        bands: The rows of each band of a picture ``(1, 3, H, W)``; none: one band, the whole
            picture, which may then have any shape.
        store: What large tensors on the CPU are made by; None: PyTorch's memory.
    """

    bands: tuple[Span, ...] = ()
    store: Store | None = None

    @property
    def whole(self) -> Placement:
        """The same memory with one band."""
        return replace(self, bands=())

    def views(self, x: Tensor) -> list[Tensor]:
        """The bands of a picture, ``(1, 3, rows, W)`` each, in its own memory."""
        if len(self.bands) < 2:
            return [x]
        return [x[..., band.start : band.stop, :] for band in self.bands]

    def empty(
        self, shape: tuple[int, ...], like: Tensor, dtype: torch.dtype | None = None
    ) -> Tensor:
        """A contiguous tensor whose values are to be set, on the device of ``like``."""
        return storage.empty(shape, like, self.store, dtype)

    def copy(self, x: Tensor) -> Tensor:
        """A copy of a picture."""
        return self.empty(tuple(x.shape), x).copy_(x.detach())

    def vector(self, like: Tensor) -> Vector:
        """A vector for a picture, whose values are to be set."""
        return [self.empty((view.numel(),), view) for view in self.views(like)]

    def release(self, *tensors: Tensor) -> None:
        """Say that tensors made here are not needed for now."""
        if self.store is not None:
            for tensor in tensors:
                if tensor.device.type == "cpu":
                    self.store.release(tensor)


PLAIN = Placement()  # one band in PyTorch's memory


def dot(x: Vector, y: Vector) -> Tensor:
    """Σ x y, 0-dimensional float64."""
    return total(sums.dot(a, b) for a, b in zip(x, y, strict=True))


def norm1(x: Vector) -> Tensor:
    """Σ |x|, 0-dimensional float64."""
    return total(sums.norm1(a) for a in x)


def norm2(x: Vector) -> Tensor:
    """√Σ x², 0-dimensional float64."""
    return dot(x, x).sqrt()


def total(parts: Iterator[Tensor]) -> Tensor:
    """The sum of what each band has found, float64, in the bands' order."""
    found = next(parts)
    for part in parts:
        found = found + part
    return found


def by_slab(work: Callable[..., None], *views: Tensor) -> None:
    """Call ``work`` with the same stretch of rows of each of the views, one after the other.

    Args:
        work: Takes one tensor for each of the views, and changes them in place.
        views: Of one shape.
    """
    shape = views[0].shape
    if not shape.numel():
        return
    along = max(0, len(shape) - 2)  # rows; values where there is one axis alone
    if not shape:
        work(*views)
        return
    rows = max(1, SLAB * shape[along] // shape.numel())
    for parts in zip(*(torch.split(view, rows, along) for view in views), strict=True):
        work(*parts)


def state(name: str, vector: Vector) -> State:
    """A vector for a checkpoint: under its name, or band by band where there are several."""
    return State(tensors=dict(zip(_names(name, len(vector)), vector, strict=True)))


def is_in(saved: State, name: str) -> bool:
    """Whether a state has this vector, in however many bands."""
    return name in saved.tensors or f"{name}.0" in saved.tensors


def restore(saved: State, name: str, vector: Vector) -> None:
    """Set a vector to what ``state`` made of one with the same bands.

    Raises:
        InvalidInput: if it is of other bands.
    """
    for key, band in zip(_names(name, len(vector)), vector, strict=True):
        band.copy_(saved.tensor(key, tuple(band.shape)))


def _names(name: str, bands: int) -> list[str]:
    return [name] if bands == 1 else [f"{name}.{band}" for band in range(bands)]
