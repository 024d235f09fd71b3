"""Where the bytes of a picture come from: files, pipes and standard input."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from collections.abc import Iterator
from typing import BinaryIO

from fastnst.errors import InvalidInput

STDIN = "-"
LARGEST = 1 << 30  # bytes that are read from a pipe


@contextlib.contextmanager
def open_source(name: str) -> Iterator[BinaryIO]:
    """Open a file, a pipe or (``-``) standard input for reading at any place.

    What cannot be read twice is read once, into memory. A pipe that nobody writes to is waited for.

    Raises:
        InvalidInput: naming it, if it is missing, a folder, a device, empty or not readable.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = _open(name, stack)
        except FileNotFoundError as error:
            raise InvalidInput(f"{name} does not exist") from error
        except OSError as error:
            raise InvalidInput(f"{name} cannot be read: {error.strerror or error}") from error
        except InvalidInput:
            raise
        except ValueError as error:  # a NUL, or what the file system cannot spell
            raise InvalidInput(f"{name!r} cannot be the name of a file: {error}") from error
        yield file


def _open(name: str, stack: contextlib.ExitStack) -> BinaryIO:
    if name.startswith(("http://", "https://", "ftp://")):
        raise InvalidInput(f"{name} is an address: download the picture and name its file")
    if name == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise InvalidInput("- is standard input, and nothing is piped into it")
        return _whole(sys.stdin.buffer, name)
    mode = os.stat(name).st_mode  # noqa: PTH116 - the name as it was given
    if stat.S_ISDIR(mode):
        raise InvalidInput(f"{name} is a folder; a picture is needed")
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise InvalidInput(f"{name} is a device or socket; a picture is needed")
    file = stack.enter_context(open(name, "rb"))  # noqa: PTH123, SIM115 - as above
    if stat.S_ISFIFO(mode):
        return _whole(file, name)
    if not os.fstat(file.fileno()).st_size:
        raise InvalidInput(f"{name} is empty")
    return file


def _whole(file: BinaryIO, name: str) -> BinaryIO:
    data = file.read(LARGEST + 1)
    if not data:
        raise InvalidInput(f"{name} is empty")
    if len(data) > LARGEST:
        raise InvalidInput(f"{name} has more than {LARGEST >> 20} MiB to read; save it as a file")
    return io.BytesIO(data)
