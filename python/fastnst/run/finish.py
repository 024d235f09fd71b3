"""The picture that is shown for one that is optimised."""

from __future__ import annotations

from torch import Tensor

from fastnst.images.colour import with_colours_of
from fastnst.images.pixels import Pixels, reduced, to_pixels


def finished(image: Tensor, colours: Tensor | None) -> Pixels:
    """The picture that is shown for ``(1, 3, H, W)``, in the colours of another if there is one."""
    return to_pixels(image if colours is None else with_colours_of(image, colours))


def finished_small(image: Tensor, colours: Tensor | None, longest: int) -> Pixels:
    """The same picture, reduced to at most ``longest`` pixels a side."""
    colours = None if colours is None else reduced(colours, longest)
    return finished(reduced(image, longest), colours)
