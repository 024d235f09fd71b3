"""The vectors of a solver: how they are cut into bands of rows, and in what memory they lie.

A vector holds one number for each value of the picture. It is a list with one flat tensor for each
band, so that whatever is done to it is done band by band. Sums over a vector are those of its
bands, in double, added in the bands' order: they depend on the bands, not on who computes them. A
process that holds some of the bands only exchanges these few numbers and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastnst.ops import sums
from fastnst.ranks.protocol import Alone, Communication
from fastnst.solvers.state import State
from fastnst.strips import storage
from fastnst.strips.geometry import Span
from fastnst.strips.storage import Store

Vector = list[Tensor]  # of each band the values (n_b,), contiguous

BAND = "band"  # before the number of a band in the names of a state
SLAB = 1 << 18  # values that are worked on together: they stay in a processor's cache


_ALONE = Alone()


@dataclass(frozen=True)
class Placement:
    """Where vectors lie.

    Attributes:
        bands: The rows of each band of a picture ``(1, 3, H, W)``; none: one band, the whole
            picture, which may then have any shape. Where several processes have bands, these are
            the ones of this process, and its pictures have their rows alone.
        store: What large tensors on the CPU are made by; None: PyTorch's memory.
        communication: How this process speaks to those that have the other bands.
        bands_in_all: How many bands all processes have; 0: there are no others.
    """

    bands: tuple[Span, ...] = ()
    store: Store | None = None
    communication: Communication = _ALONE
    bands_in_all: int = 0

    @property
    def whole(self) -> Placement:
        """The same memory with one band."""
        return replace(self, bands=())

    def views(self, x: Tensor) -> list[Tensor]:
        """The bands of a picture, ``(1, 3, rows, W)`` each, in its own memory."""
        if len(self.bands) < 2:
            return [x]
        first = self.bands[0].start
        return [x[..., band.start - first : band.stop - first, :] for band in self.bands]

    @property
    def labels(self) -> list[str]:
        """What each of the bands is called in a state: ``band3``; empty where there is one in all.

        The numbers are those of the whole picture, so that a state does not depend on who has it.
        """
        if max(len(self.bands), self.bands_in_all) < 2:
            return [""]
        return [f"{BAND}{band.index}" for band in self.bands]

    def norm1(self, picture: Tensor) -> Tensor:
        """Σ |x| of a picture, 0-dimensional float64."""
        return norm1(self.views(picture), self)

    def count(self, x: Tensor) -> int:
        """The number of values of the whole picture that a picture here is, or has rows of."""
        if self.communication.ranks == 1:
            return x.numel()
        return x.numel() // x.shape[-2] * self.bands[0].length

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


def dot(x: Vector, y: Vector, placement: Placement = PLAIN) -> Tensor:
    """Σ x y, 0-dimensional float64."""
    return total((sums.dot(a, b) for a, b in zip(x, y, strict=True)), placement)


def norm1(x: Vector, placement: Placement = PLAIN) -> Tensor:
    """Σ |x|, 0-dimensional float64."""
    return total((sums.norm1(a) for a in x), placement)


def norm2(x: Vector, placement: Placement = PLAIN) -> Tensor:
    """√Σ x², 0-dimensional float64."""
    return dot(x, x, placement).sqrt()


def total(parts: Iterator[Tensor], placement: Placement = PLAIN) -> Tensor:
    """The sum of what each band has found, float64, in the bands' order.

    Args:
        parts: Of one shape.
        placement: Where the bands lie; those that other processes have count too.
    """
    if placement.communication.ranks == 1:
        found = next(parts)
        for part in parts:
            found = found + part
        return found
    here = list(parts)
    shape = placement.bands_in_all, here[0].numel()
    table = torch.zeros(shape, dtype=torch.float64, device="cpu")
    for band, part in zip(placement.bands, here, strict=True):
        table[band.index] = part.reshape(-1)
    return placement.communication.reduce_in_order(table).view(here[0].shape).to(here[0].device)


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


def state(name: str, vector: Vector, placement: Placement) -> State:
    """A vector for a checkpoint: under its name, or band by band where there are several."""
    names = [under(name, label) for label in placement.labels]
    return State(tensors=dict(zip(names, vector, strict=True)))


def restore(saved: State, name: str, vector: Vector, placement: Placement) -> None:
    """Set a vector to what ``state`` made of one with the same bands.

    Raises:
        InvalidInput: if it is of other bands.
    """
    for label, band in zip(placement.labels, vector, strict=True):
        band.copy_(saved.tensor(under(name, label), tuple(band.shape)))


def under(name: str, label: str) -> str:
    """A name in a state for what a band has of something."""
    return f"{name}.{label}" if label else name
