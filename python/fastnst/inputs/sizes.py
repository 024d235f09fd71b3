"""How large a result can become, before anything is decoded."""

from __future__ import annotations

import os
from numbers import Real

from fastnst import samples
from fastnst.devices import DEFAULT_SIZE
from fastnst.errors import InvalidInput
from fastnst.images import large
from fastnst.images.decode import Picture
from fastnst.images.pixels import scaled_size


def most_pixels(long_side: int | None, megapixels: float | None = None) -> int:
    """How many pixels of a picture file are decoded, against files made to unpack to a huge one.

    Args:
        long_side: The setting ``size``: a picture that is no larger than a result of this size may
            be is what was asked for.
        megapixels: The limit that was asked for by itself, which goes before; None: none was.

    Raises:
        InvalidInput: for a limit that is not above 0.
    """
    if megapixels is None:
        return max(large.LARGEST, (long_side or 0) ** 2)
    if not (isinstance(megapixels, Real) and 0 < megapixels < 1e9):
        raise InvalidInput(
            f"max_megapixels is {megapixels!r}: expected more than 0 and less than 1e9"
        )
    return round(megapixels * 1e6)


def result_size(
    picture: Picture, long_side: int | None, megapixels: float | None = None
) -> tuple[int, int] | None:
    """Width and height of a result in the proportions of a picture, or more than they can be.

    Args:
        picture: Anything that ``load_image`` takes. Only a regular file is looked into; a pipe can
            be read once, and is left for that.
        long_side: The setting ``size``; None: the larger of the devices' defaults.
        megapixels: As for ``most_pixels``.

    Returns:
        The size; a square for a picture that cannot be looked into, and None for one of these that
        keeps its own size.

    Raises:
        InvalidInput: for a file that is no picture, or a sample that there is not.
    """
    side = max(DEFAULT_SIZE.values()) if long_side is None else long_side
    if isinstance(picture, str) and picture.startswith(samples.PREFIX):
        return scaled_size(*samples.find(picture.removeprefix(samples.PREFIX)).size, side)
    if isinstance(picture, (str, os.PathLike)) and os.path.isfile(picture):  # noqa: PTH113
        size = large.size_of(picture, most_pixels(long_side, megapixels))
        return scaled_size(*size, side)
    return (side, side) if side else None
