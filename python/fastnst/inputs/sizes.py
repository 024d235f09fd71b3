"""How large a result can become, before anything is decoded."""

from __future__ import annotations

import os

from fastnst.devices import DEFAULT_SIZE
from fastnst.errors import InvalidInput
from fastnst.images.decode import Picture, open_image
from fastnst.images.pixels import scaled_size


def result_size(picture: Picture, long_side: int | None) -> tuple[int, int] | None:
    """Width and height of a result in the proportions of a picture, or more than they can be.

    Args:
        picture: Anything that ``load_image`` takes. Only a regular file is looked into; a pipe can
            be read once, and is left for that.
        long_side: The setting ``size``; None: the larger of the devices' defaults.

    Returns:
        The size; a square for a picture that cannot be looked into, and None for one of these that
        keeps its own size.

    Raises:
        InvalidInput: for a file that is no picture.
    """
    side = max(DEFAULT_SIZE.values()) if long_side is None else long_side
    if isinstance(picture, (str, os.PathLike)) and os.path.isfile(picture):  # noqa: PTH113
        with open_image(picture) as opened:
            try:
                return scaled_size(*opened.size, side)
            except InvalidInput:
                return None  # too small a picture, which the run says
    return (side, side) if side else None
