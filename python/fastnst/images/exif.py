"""The orientation of a photograph, read from its EXIF block and from nothing else in it.

The block is never parsed as a whole nor written again, so a tag that is damaged or of an odd type
does no harm. The orientation counts if it is one number, of whatever numeric type.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

ORIENTATION = 0x0112
PREFIX = b"Exif\0\0"
_NUMBERS = {3: "H", 4: "L", 5: "LL", 8: "h", 9: "l", 10: "ll", 11: "f", 12: "d"}  # by TIFF type


def orientation(block: bytes | None) -> int:
    """The orientation that an EXIF block asks for, 1 to 8; 1, as it is, if it names none.

    A block whose header is written twice is not valid after the first one: it is ignored, as
    browsers do.

    Args:
        block: A TIFF header and directory, perhaps after ``Exif`` and two zeros.
    """
    block = (block or b"").removeprefix(PREFIX)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "L", block, 4)
        (entries,) = struct.unpack_from(order + "H", block, at)
        for place in range(at + 2, at + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(order + "HHL", block, place)
            if tag == ORIENTATION:
                return _value(block, order, place + 8, kind) if count == 1 else 1
    except struct.error:  # it ends before what it points to
        pass
    return 1


def valid(value: object) -> int:
    """A number as an orientation; 1 for anything else."""
    numeric = isinstance(value, (int, float)) or hasattr(value, "numerator")
    return int(value) if numeric and value in range(1, 9) else 1  # type: ignore[call-overload]


def upright(values: NDArray[np.generic], turned: int) -> NDArray[np.generic]:
    """Turn and mirror ``(H, W, …)`` from a stored orientation to the one to be shown; a view."""
    if turned in (2, 5, 7):
        values = values[:, ::-1]
    if turned == 4:
        values = values[::-1]
    quarters = {3: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(turned, 0)  # counterclockwise
    return np.rot90(values, quarters)


def _value(block: bytes, order: str, at: int, kind: int) -> int:
    numbers = _NUMBERS.get(kind)
    if numbers is None:
        return 1
    if struct.calcsize("=" + numbers) > 4:
        (at,) = struct.unpack_from(order + "L", block, at)
    found = struct.unpack_from(order + numbers, block, at)
    if len(found) == 2:
        return valid(found[0] / found[1]) if found[1] else 1
    return valid(found[0])
