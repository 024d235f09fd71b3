"""White noise by rows, with the bits that torch gives for a whole picture."""

from __future__ import annotations

import torch
from torch import Tensor

from fastnst.strips.storage import BandedTensor

_BLOCK = 16  # torch fills a tensor of 16 values or more in blocks of 16
_CHUNK = 1 << 20  # values drawn at a time, a multiple of the block


def fill_with_noise(stored: BandedTensor, seed: int, mean: float, std: float) -> None:
    """Fill a picture stored by band with Gaussian noise, clamped to [0, 1].

    The values are those of ``torch.randn`` of the whole shape: one sequence, channel after channel,
    row after row.

    Args:
        stored: ``(1, 3, H, W)`` float32.
        seed: Of the sequence.
        mean: Of the noise.
        std: Its standard deviation.
    """
    channels = stored.leading[-1]
    noise = _Noise(channels * stored.height * stored.width, seed)
    for channel in range(channels):
        for index in range(len(stored)):
            rows = stored.band(index)[0, channel]
            values = noise.take(rows.numel()).view_as(rows)
            rows.copy_((mean + std * values).clamp_(0, 1))
            stored.release(index)


class _Noise:
    """The values of ``torch.randn(count)``, in order, a part at a time.

    A sequence drawn in parts is the same if every part but the last is a multiple of the block, and
    the last is a block or more: torch draws a last block that is not full anew.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._left = count
        self._generator = torch.Generator().manual_seed(seed)
        self._drawn = torch.empty(0, dtype=torch.float32, device="cpu")

    def take(self, count: int) -> Tensor:
        """The next ``count`` values."""
        parts = []
        while count:
            if not len(self._drawn):
                self._drawn = self._draw()
            part, self._drawn = self._drawn[:count], self._drawn[count:]
            parts.append(part)
            count -= len(part)
        return torch.cat(parts)

    def _draw(self) -> Tensor:
        count = self._left if self._left < _CHUNK + _BLOCK else _CHUNK
        self._left -= count
        return torch.randn(count, generator=self._generator, dtype=torch.float32, device="cpu")
