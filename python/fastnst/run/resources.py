"""What a run may take of the machine: memory, disk, and pictures of which size."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fastnst.errors import InvalidInput
from fastnst.strips.budget import read_bytes


@dataclass(frozen=True)
class Resources:
    """What a run may take of the machine. None of it changes what the run is.

    Attributes:
        memory: Bytes of its device that its process may take; None: what is free. On a CPU PyTorch
            itself is among them. A picture that does not fit is computed in strips.
        scratch: A folder on a disk for what does not fit in strips either, in a file that is gone
            when the run is; None: there is none, and large pictures lie in the system's folder for
            temporary files.
        megapixels: The most pixels of a picture file to decode, in millions; None: 179, or what a
            result of the size that is asked for may have.
    """

    memory: int | None = None
    scratch: Path | None = None
    megapixels: float | None = None

    @classmethod
    def of(
        cls,
        memory: str | float | None = None,
        scratch: str | os.PathLike[str] | None = None,
        max_megapixels: float | None = None,
        label: str = "memory",
    ) -> Resources:
        """What a person has said of them.

        Args:
            memory: Bytes, as a number or as people write it: ``"8GB"``, ``"512 MiB"``.
            scratch: A folder.
            max_megapixels: See ``megapixels``.
            label: What to call the memory in messages.

        Raises:
            InvalidInput: if ``memory`` is no positive number of bytes, or ``scratch`` no path.
        """
        limit = memory if memory is None else read_bytes(_text(memory), label)
        try:
            folder = None if scratch is None else Path(scratch)
        except TypeError as error:
            raise InvalidInput(f"scratch is {scratch!r}: expected the path of a folder") from error
        return cls(limit, folder, max_megapixels)


def _text(memory: str | float) -> str:
    """A number of bytes as text, without the point of a whole number."""
    try:
        return memory if isinstance(memory, str) else str(int(memory))
    except (TypeError, ValueError, OverflowError):
        return str(memory)


UNLIMITED = Resources()
