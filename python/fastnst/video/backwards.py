"""Frames from the last to the first: they are decoded into a file first, not into memory."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from fastnst.errors import InvalidInput
from fastnst.video.flow import Frame


def from_the_last(frames: Iterable[Frame], folder: Path, count: int) -> Iterator[Frame]:
    """Give frames in the opposite order.

    Args:
        frames: The frames, from the first on, all of one size.
        folder: Where they lie meanwhile, in a file without a name: 12 bytes a pixel.
        count: How many there are, about.

    Raises:
        InvalidInput: if they do not fit there, and where ``frames`` raises it.
    """
    kept: list[Frame] = []  # without their pixels, of which a view would hold them whole
    nothing = np.empty((0, 0, 3), np.float32)
    shape: tuple[int, ...] = ()  # of all of them
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        except OSError as error:
            raise InvalidInput(
                f"{folder} takes no frames of a film that goes backwards: {error.strerror}"
            ) from error
        for frame in frames:
            if not kept:
                _check_room(count * frame.pixels.nbytes, folder)
            kept.append(replace(frame, pixels=nothing))
            shape = frame.pixels.shape
            try:
                file.write(np.ascontiguousarray(frame.pixels, np.float32).data)
                file.flush()
            except OSError as error:
                raise InvalidInput(
                    f"{folder} has no room for the frames of a film that goes backwards: "
                    f"{error.strerror}"
                ) from error
        size = 4 * math.prod(shape)
        for place in reversed(range(len(kept))):
            file.seek(place * size)
            pixels = np.frombuffer(file.read(size), np.float32).reshape(shape).copy()
            yield replace(kept[place], pixels=pixels)


def _check_room(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InvalidInput(
            f"a film that goes backwards needs {needed / 1e9:.1f} GB in {folder} for its frames, "
            f"and {free / 1e9:.1f} GB are free"
        )
