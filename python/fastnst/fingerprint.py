"""SHA-256 of tensors and of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor


def digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's shape, dtype and values, hexadecimal."""
    about = f"{tuple(tensor.shape)} {tensor.dtype} ".encode()
    values = tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.sha256(about + values.tobytes()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        found = hashlib.sha256()
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()
