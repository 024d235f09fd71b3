"""Pictures by rows, scaled or recoloured, as tensors: large ones in a scratch file."""

from __future__ import annotations

import torch
from torch import Tensor

from fastnst.images import large
from fastnst.images.pixels import resize, to_tensor
from fastnst.images.resample import ResizedRows
from fastnst.images.rows import RowSource, strips, to_tensor_rows
from fastnst.strips.storage import Store


def scaled(source: RowSource, width: int, height: int, store: Store) -> Tensor:
    """A picture scaled to ``width`` × ``height``, ``(1, 3, H, W)`` float32.

    Args:
        source: The picture.
        width: Columns of the result.
        height: Rows of the result.
        store: Where a result of more than ``large.WHOLE`` pixels lies.
    """
    if max(width * height, source.width * source.height) <= large.WHOLE:
        return to_tensor(resize(source.rows(0, source.height), width, height))
    return filled(ResizedRows(source, width, height), store)


def filled(source: RowSource, store: Store) -> Tensor:
    """A picture as a tensor ``(1, 3, H, W)`` float32, made a few rows at a time.

    Args:
        source: The picture.
        store: Where it lies if it has more than ``large.WHOLE`` pixels.
    """
    image, stored = room((1, 3, source.height, source.width), store)
    for start, stop in strips(source):
        image[:, :, start:stop] = to_tensor_rows(source, start, stop)
        if stored:
            store.release(image[:, :, start:stop])
    return image


def room(shape: tuple[int, int, int, int], store: Store) -> tuple[Tensor, bool]:
    """A tensor for a picture, and whether it lies in the store."""
    if shape[2] * shape[3] > large.WHOLE:
        return store.zeros(shape), True
    return torch.empty(shape, dtype=torch.float32, device="cpu"), False
