"""What this process reads from its standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def on_stdin(data: bytes) -> Iterator[None]:
    """Let descriptor 0, and with it ``sys.stdin`` and /dev/stdin, be a pipe that ends after data.

    Args:
        data: Less than what a pipe holds, 64 KiB.
    """
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    descriptor, stream = os.dup(0), sys.stdin
    os.dup2(read, 0)
    os.close(read)
    try:
        with open(0, closefd=False) as sys.stdin:
            yield
    finally:
        sys.stdin = stream
        os.dup2(descriptor, 0)
        os.close(descriptor)
