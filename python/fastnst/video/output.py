"""Where a film may be written, as far as its name says. Nothing here imports torch."""

from __future__ import annotations

import os
from pathlib import Path

from fastnst.errors import InvalidInput
from fastnst.output.encoder import SUFFIX


def check_output(path: Path) -> None:
    """Make sure that a film, or its frames, can be written there.

    Args:
        path: A file that ends in ``.mp4``, or a folder for frames.

    Raises:
        InvalidInput: if not.
    """
    is_file = path.suffix.lower() == SUFFIX
    if path.suffix and not is_file:
        raise InvalidInput(
            f"output {path}: expected a name ending in {SUFFIX}, or a folder for frames"
        )
    if not is_file and os.path.exists(path) and not path.is_dir():  # noqa: PTH110 - any name
        raise InvalidInput(f"output {path} is a file; name a folder for frames")
    if not path.parent.is_dir():
        raise InvalidInput(f"output {path}: the folder {path.parent} does not exist")
