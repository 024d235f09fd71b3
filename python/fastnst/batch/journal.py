"""The journal of a folder: which pictures batches have made there, from what, and how.

``fastnst-batch.jsonl`` has one line for each picture that was made, with a fingerprint of all that
the picture depends on. Several batches may append to it, also on several machines.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from fastnst.claims import claim
from fastnst.errors import OutputFailed

JOURNAL = "fastnst-batch.jsonl"


def read_journal(folder: Path) -> dict[str, str]:
    """``{output: fingerprint}`` of the pictures that batches made in a folder.

    A line that a kill cut short counts as not written.
    """
    return Journal(folder).read()


class Journal:
    """What batches have noted in a folder, read as it grows.

    Args:
        folder: The folder.
        since: Bytes of the journal to leave out: what was noted before counts for nothing.
    """

    def __init__(self, folder: Path, since: int = 0) -> None:
        self.folder = folder
        self._at = since
        self._entries: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        """``{output: fingerprint}`` of all that was noted until now."""
        try:
            with (self.folder / JOURNAL).open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except (OSError, ValueError):  # ValueError: a NUL in the name
            return self._entries
        whole = data.rfind(b"\n") + 1
        self._at += whole
        for line in data[:whole].decode("utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, OSError, RuntimeError):
                entry = json.loads(line)
                output = (self.folder / entry["output"]).resolve()
                self._entries[str(output)] = entry["fingerprint"]
        return self._entries


def journal_size(folder: Path) -> int:
    """Bytes of a folder's journal; 0 if there is none."""
    try:
        return (folder / JOURNAL).stat().st_size
    except (OSError, ValueError):
        return 0


def note(
    folder: Path,
    output: Path,
    content: str,
    style: str | tuple[str, ...],
    fingerprint: str | None,
) -> None:
    """Append to the journal; a line that a kill cut short is closed first.

    One process at a time: not every file system appends to a file for several machines.

    Args:
        folder: The folder of the journal.
        output: The picture that was made.
        content: What it was made from.
        style: Likewise, one or several.
        fingerprint: Of all that it depends on.

    Raises:
        OutputFailed: if the journal cannot be written.
    """
    entry = {
        "output": os.path.relpath(output.resolve(), folder.resolve()),
        "content": content,
        "style": style,
        "fingerprint": fingerprint,
    }
    path = folder / JOURNAL
    try:
        with claim(path, seconds=-1), path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
            start = "" if not size or file.read(1) == b"\n" else "\n"
            file.write(f"{start}{json.dumps(entry)}\n".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputFailed(f"journal {path} could not be written: {error.strerror}") from error
