"""SHA-256 of tensors and of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor


def digest(image: Tensor) -> str:
    """SHA-256 of a tensor's shape, dtype and values."""
    about = f"{tuple(image.shape)} {image.dtype} ".encode()
    values = image.detach().cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.sha256(about + values.tobytes()).hexdigest()


def sha256_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
