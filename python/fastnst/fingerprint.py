"""SHA-256 of tensors and of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor


def digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's shape, dtype and values, hexadecimal."""
    return digest_of_parts(tensor.shape, tensor.dtype, [tensor])


def digest_of_parts(shape: Sequence[int], dtype: torch.dtype, parts: Iterable[Tensor]) -> str:
    """The ``digest`` of a tensor that is given in parts.

    Args:
        shape: Of the whole tensor.
        dtype: Of the whole tensor, and of each part.
        parts: Its values in order, a few at a time, such as some of its rows.
    """
    hashed = hashlib.sha256(f"{tuple(shape)} {dtype} ".encode())
    for part in parts:
        hashed.update(part.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        found = hashlib.sha256()
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()
