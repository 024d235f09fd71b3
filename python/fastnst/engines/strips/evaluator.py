"""The contract between the engine that walks a picture's pieces and what computes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from fastnst.engines.strips.statistics import Moments, Seed
from fastnst.objective.objective import Objective
from fastnst.strips.geometry import Tile, level_of

Key = tuple[str, int]  # a layer, and which of its maps of guidance; see ``statistics.py``


@dataclass(frozen=True)
class Sums:
    """What a piece contributes: sums over the positions that it owns, float64.

    Attributes:
        moments: Sums for the style losses, by layer and guidance.
        content: Σ (F − P)² by layer, 0-dimensional.
    """

    moments: Mapping[Key, Moments]
    content: Mapping[str, Tensor]


class Evaluator(Protocol):
    """Computes the pieces of a picture, one after the other.

    The order of calls is ``forward``, then ``content``, or else ``compare_with`` and then ``sums``
    or ``gradient``, once each at most; and ``set_seeds`` before any ``gradient``. Both may be asked
    of one ``forward``, ``sums`` first.

    Attributes:
        objective: That of the whole picture, whose guidance it holds.
        name: What the engine is called in results.
        precision: That of the features, ``fp32`` or ``bf16``.
        tf32: Whether products of float32 features are rounded to TF32, as that of an ``Engine``.
    """

    objective: Objective
    name: str
    precision: str
    tf32: bool

    def another(self) -> Evaluator:
        """One of the same kind that has a piece of its own, and the same network."""
        ...

    def forward(self, pixels: Tensor, tile: Tile) -> None:
        """Compute the features of a piece.

        Args:
            pixels: The computed pixels ``(1, 3, h, w)``, halo included.
            tile: Where they lie.
        """
        ...

    def content(self) -> Mapping[str, Tensor]:
        """The features of the content's layers at the owned positions, in memory of their own.

        Returns:
            ``(1, C, rows, columns)`` by layer, in the dtype of the losses.
        """
        ...

    def compare_with(self, targets: Mapping[str, Tensor]) -> None:
        """Give the content targets P at the owned positions, as ``content`` returns them."""
        ...

    def sums(self) -> Sums:
        """The sums over the positions that the piece of the last ``forward`` owns."""
        ...

    def set_seeds(self, style: Mapping[Key, Seed], content: Mapping[str, float]) -> None:
        """Give the losses' gradients at the features, once the whole picture's sums are known.

        Args:
            style: By layer and guidance; see ``Seed``.
            content: By layer the factor of F − P.
        """
        ...

    def gradient(self) -> Tensor:
        """The gradient that the owned positions of the last ``forward`` give to all its pixels.

        Returns:
            ``(1, 3, h, w)``; its memory may be reused by the next piece.
        """
        ...


def owned_within(tile: Tile, layer: str) -> tuple[slice, slice]:
    """Rows and columns of the owned positions, counted in a piece's own features of a layer."""
    level = level_of(layer)
    return tile.rows.owned_within(level), tile.columns.owned_within(level)


def owned(tile: Tile, layer: str) -> tuple[slice, slice]:
    """Rows and columns of the owned positions, counted in the whole picture's layer."""
    level = level_of(layer)
    return tile.rows.owned(level), tile.columns.owned(level)
