"""Regions: which style goes where (Gatys et al. 2017, arXiv:1611.07865, §4.1).

A membership map has values in [0, 1] at the resolution of a picture. At a layer it is averaged over
the same 2×2 windows as the features, so that soft edges stay soft, and normalised to guidance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from fastnst.errors import InvalidInput
from fastnst.losses.guidance import normalise_guidance
from fastnst.ops.sums import norm1


@dataclass(frozen=True)
class Region:
    """A part of the content picture and the styles that it gets.

    Attributes:
        styles: By the index of a style picture the part of it that counts: a membership map
            ``(h, w)`` at the resolution of that picture; None: all of it.
        content: Membership map ``(H, W)`` at the resolution of the result; None: all of it.
        name: What to call it in messages.
    """

    styles: Mapping[int, Tensor | None]
    content: Tensor | None = None
    name: str = "the picture"

    @property
    def share(self) -> float:
        """λ, the weight of its loss: its part of the picture's area, the mean of its map.

        So a style is as strong, per pixel, in a small region as in a large one, and the shares of
        regions that make up the picture have the sum 1, however soft their edges are.
        """
        if self.content is None:
            return 1.0
        return float(norm1(self.content)) / self.content.numel()

    def to(self, device: torch.device) -> Region:
        """The region with its maps on a device."""
        moved = {k: None if m is None else m.to(device) for k, m in self.styles.items()}
        return replace(
            self, styles=moved, content=None if self.content is None else self.content.to(device)
        )

    def content_guidance(self, size: tuple[int, int]) -> Tensor | None:
        """Guidance over the result at a layer with (H, W) positions."""
        return _guidance(self.content, size, f"{self.name} of the content mask")

    def style_guidance(self, index: int, size: tuple[int, int]) -> Tensor | None:
        """Guidance over a style picture at a layer with (H, W) positions."""
        return _guidance(self.styles[index], size, f"{self.name} of style mask {index + 1}")


def everywhere(styles: int) -> tuple[Region, ...]:
    """One region, the whole picture, that gets all of ``styles`` style pictures."""
    return (Region(dict.fromkeys(range(styles))),)


def _guidance(membership: Tensor | None, size: tuple[int, int], label: str) -> Tensor | None:
    if membership is None:
        return None
    x = membership[None, None]
    while x.shape[-2] > size[0] or x.shape[-1] > size[1]:
        x = functional.avg_pool2d(x, 2)
    if tuple(x.shape[-2:]) != tuple(size):
        raise InvalidInput(
            f"{label} has {tuple(membership.shape)} values, which do not halve to {tuple(size)}"
        )
    if not float(x.max()) > 0:
        raise InvalidInput(f"{label} is too small: nothing of it is left at the deepest layer")
    return normalise_guidance(x[0, 0])
