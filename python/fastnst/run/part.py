"""How a checkpoint names what ranks have written of it."""

from __future__ import annotations

import re
from dataclasses import dataclass

SUFFIX = ".parts"  # of the folder beside a checkpoint
PART = re.compile(r"[0-9a-f]{8}-\d{1,5}\.part")  # of which checkpoint, and of which rank
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Part:
    """What one rank has written of a checkpoint.

    Attributes:
        name: The file's name in the folder.
        sha256: The digest of its tensors.
    """

    name: str
    sha256: str
