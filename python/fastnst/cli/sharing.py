"""How work is shared out among processes, as the command line says it."""

from __future__ import annotations

import re

from fastnst.errors import InvalidInput


def read_shard(text: str | None) -> tuple[int, int]:
    """The part that ``--shard`` names and how many there are, from ``2/8``; None: the whole.

    Raises:
        InvalidInput: for anything but two whole numbers of which the first is the smaller or equal.
    """
    if text is None:
        return 1, 1
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip(), re.ASCII)
    part, count = map(int, found.groups()) if found else (0, 0)
    if not 1 <= part <= count:
        raise InvalidInput(f"--shard is {text}: expected I/N, a part from 1 to N, such as 2/8")
    return part, count
