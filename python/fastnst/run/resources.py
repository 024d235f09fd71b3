"""What a run may take of the machine: memory, disk, and pictures of which size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Resources:
    """What a run may take of the machine. None of it changes what the run is.

    Attributes:
        memory: Bytes that it may take; None: what is free. A picture that does not fit is computed
            in strips.
        scratch: A folder on a disk for what does not fit in strips either, in a file that is gone
            when the run is; None: there is none, and large pictures lie in the system's folder for
            temporary files.
        megapixels: The most pixels of a picture file to decode, in millions; None: 179, or what a
            result of the size that is asked for may have.
    """

    memory: int | None = None
    scratch: Path | None = None
    megapixels: float | None = None


UNLIMITED = Resources()
