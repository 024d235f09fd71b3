"""Which instruction sets of the compiled kernels this machine runs, and threads for them."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from fastnst.ops import extension

ISAS = extension.available_isas() if extension.is_available() else []

needs_native = pytest.mark.skipif(
    not ISAS, reason=f"no extension: {extension.unavailable_reason()}"
)


@contextmanager
def on_two_threads() -> Iterator[None]:
    """While it lasts PyTorch and the kernels compute with two threads, or more if they did."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(before, 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)
