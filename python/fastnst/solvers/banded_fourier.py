"""The Fourier transform of a picture that is cut into bands of rows, which several processes have.

Rows are transformed where they lie. Then each process takes some columns of the half spectrum, all
rows of them, and transforms these: an all-to-all, by which it sends all of its spectrum but what it
keeps, 12 bytes for each of its pixels in float32. The inverse goes the same way back. To gather the
picture and transform it everywhere would send P times as much, and take the memory and the time of
the whole picture with every process.

What is transformed by one call follows from the bands alone: the rows of a band, and the columns
that go with it, of which there are as many blocks as bands. How a library computes a transform may
depend on how many it is given at once, so the bits would otherwise depend on the number of ranks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastnst.ranks.protocol import Message
from fastnst.solvers.vectors import Placement, Vector

Spectrum = list[Tensor]  # of each block of columns that this process has ``(H, 3, columns)``


class BandedFourier:
    """The orthonormal transform of vectors for pictures, as that of the whole picture.

    All processes make one together, and call its methods together.

    Args:
        like: The rows of a picture that this process has, ``(1, 3, h, W)``.
        placement: How the picture is cut.
        colours: An orthonormal basis of the colours in rows, ``(3, 3)``; what is transformed are
            the coordinates in it.

    Attributes:
        height: H, rows of the whole picture.
        blocks: The columns of the half spectrum that this process has, a block for each band.
    """

    def __init__(self, like: Tensor, placement: Placement, colours: Tensor) -> None:
        self._placement, self._colours, self._like = placement, colours, like.new_empty(0)
        self._speech = placement.communication
        own = [[band.index, band.start, band.stop] for band in placement.bands]
        found = self._speech.collect(torch.tensor(own, dtype=torch.int64, device="cpu"))
        # Of each rank: its bands, and its rows.
        self._bands = [[index for index, _, _ in bands] for bands in map(Tensor.tolist, found)]
        self._rows = [slice(int(bands[0, 1]), int(bands[-1, 2])) for bands in found]
        self._width = like.shape[-1]
        half, count = self._width // 2 + 1, sum(map(len, self._bands))
        self._columns = [slice(k * half // count, (k + 1) * half // count) for k in range(count)]
        self.height = placement.bands[0].length
        self.blocks = [self._columns[index] for index in self._bands[self._speech.rank]]
        # Of the rows that this process has all columns: what it gives, and what it takes back.
        rows = like.shape[-2]
        alone = self._speech.ranks == 1
        self._own = [] if alone else [self._new(rows, columns) for columns in self._columns]

    def spectrum(self) -> Spectrum:
        """Memory for a spectrum."""
        return [self._new(self.height, columns) for columns in self.blocks]

    def forward(self, x: Vector, out: Spectrum, unit: float = 1.0) -> None:
        """Put the transform of x / ``unit`` into ``out``; x stays as it is."""
        colours = self._colours / unit
        rows, mine = self._halves(out), self._rows[self._speech.rank]
        for band, part in zip(self._placement.bands, x, strict=True):
            coordinates = (colours @ part.view(3, -1)).view(3, -1, self._width)
            found = torch.fft.rfft(coordinates, norm="ortho").transpose(0, 1)
            place = slice(band.start - mine.start, band.stop - mine.start)
            for columns, of_block in zip(self._columns, rows, strict=True):
                of_block[place] = found[..., columns]
            self._placement.release(part)
        self._trade(out, back=False)
        for block in out:
            if block.numel():
                block.copy_(torch.fft.fft(block, dim=0, norm="ortho"))
            self._placement.release(block)

    def inverse(self, spectrum: Spectrum, out: Vector) -> None:
        """Put the picture of a spectrum into ``out``; the spectrum is overwritten."""
        for block in spectrum:
            if block.numel():
                block.copy_(torch.fft.ifft(block, dim=0, norm="ortho"))
        self._trade(spectrum, back=True)
        rows, mine = self._halves(spectrum), self._rows[self._speech.rank]
        for band, part in zip(self._placement.bands, out, strict=True):
            place = slice(band.start - mine.start, band.stop - mine.start)
            found = torch.cat([of_block[place] for of_block in rows], -1).transpose(0, 1)
            coordinates = torch.fft.irfft(found, n=self._width, norm="ortho")
            torch.matmul(self._colours.T, coordinates.flatten(1), out=part.view(3, -1))
            self._placement.release(part)
        self._placement.release(*rows)

    def _new(self, rows: int, columns: slice) -> Tensor:
        """Memory for a block of columns, complex."""
        shape = (rows, 3, columns.stop - columns.start, 2)
        return torch.view_as_complex(self._placement.empty(shape, self._like))

    def _halves(self, spectrum: Spectrum) -> list[Tensor]:
        """The memory for the rows that this process has, a tensor for each block of columns.

        It is the spectrum's own where no other process has any of it.
        """
        return self._own or spectrum

    def _trade(self, spectrum: Spectrum, back: bool) -> None:
        """Give to each process the columns that are its own, or back the rows that are its own."""
        if not self._own:
            return
        rank = self._speech.rank
        by_rows: list[Message] = []
        by_columns: list[Message] = []
        for peer, rows in enumerate(self._rows):
            if peer != rank:
                by_rows += [(peer, self._own[index]) for index in self._bands[peer]]
                by_columns += [(peer, block[rows]) for block in spectrum]
        kept = [(block[self._rows[rank]], self._own[index]) for block, index in
                zip(spectrum, self._bands[rank], strict=True)]  # fmt: skip
        if back:
            self._speech.all_to_all(by_columns, by_rows)
        else:
            self._speech.all_to_all(by_rows, by_columns)
        for in_spectrum, in_rows in kept:
            if back:
                in_rows.copy_(in_spectrum)
            else:
                in_spectrum.copy_(in_rows)
