"""Where a picture is cut, what each piece owns, and what must be computed around it.

A picture is cut along its rows into *bands*; where a row is too wide, also along its columns: the
pieces are then called *tiles*. Along one axis a piece is a ``Span``. It *owns* positions: the terms
of the objective at these positions are counted by this piece and by no other. It *computes* more:
the owned pixels and a *halo* around them, so that every owned position of every layer sees all of
its receptive field.

The same holds at every *level* of a VGG network. Level ℓ is what comes after ℓ poolings of 2×2 with
stride 2 and no padding, so an axis of ``n`` pixels has ``n >> ℓ`` positions there: the last pixels
of an odd size fall away. Every cut is a multiple of the network's total stride, so a piece's own
poolings fall where those of the whole picture do.

Where there is memory for the features of all pieces at once, neighbours may *exchange* a row of
them after each layer. Then no halo is computed: around its own rows a piece has a *margin*, of
which the nearest row alone is filled, and consecutive bands are computed as one piece.

The grid of bands is the unit of storage and of reduction, and without exchange of computation. A
result depends on the grid, never on which process or machine computed which band. Whoever stores a
run's state must store the grid's parameters with it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

WINOGRAD_TILES = (6,)  # output tiles of F(6×6, 3×3), those of the native convolutions in float32


def level_of(layer: str) -> int:
    """The number of poolings up to a layer: 0 for ``conv1_2``, 3 for ``relu4_1``, 4 for ``pool4``.

    Args:
        layer: ``convB_C``, ``reluB_C`` or ``poolB``, where ``B`` is the block, from 1.
    """
    block = int(layer.removeprefix("conv").removeprefix("relu").removeprefix("pool").split("_")[0])
    return block if layer.startswith("pool") else block - 1


def reach(layers: Iterable[str]) -> int:
    """How many pixels beyond a position's own pixels its receptive field goes, on each side.

    A position ``p`` at level ℓ has the pixels ``p << ℓ`` to ``((p + 1) << ℓ) - 1`` for its own.
    Each 3×3 convolution at level ℓ adds ``1 << ℓ`` pixels on either side; a pooling adds none.

    Args:
        layers: The layers from the first to the deepest in use, as ``Architecture.up_to`` gives
            them.

    Returns:
        70 for ``relu5_1`` of VGG-19.
    """
    return sum(1 << level_of(layer) for layer in layers if layer.startswith("conv"))


@dataclass(frozen=True)
class Spacing:
    """What the cuts of a picture must keep to.

    Attributes:
        alignment: Every piece starts being computed at a multiple of this many pixels.
        halo: Pixels computed on either side of the owned ones, a multiple of ``alignment``.
        exchanges: Whether neighbours exchange rows of features: the halo is a margin then.
    """

    alignment: int
    halo: int
    exchanges: bool = False

    def __post_init__(self) -> None:
        if self.alignment < 1 or self.halo < 0 or self.halo % self.alignment:
            message = f"halo {self.halo} is not a multiple of the alignment {self.alignment}"
            raise ValueError(message)

    @classmethod
    def of(
        cls, layers: Sequence[str], tiles: Sequence[int] = WINOGRAD_TILES, further: int = 0
    ) -> Spacing:
        """The spacing that a network asks for.

        Args:
            layers: The layers from the first to the deepest in use.
            tiles: Sizes of the output tiles of the Winograd convolutions in use. A piece has the
                same tiles as the whole picture only if its origin is a multiple of each of them at
                the deepest level; otherwise its features agree to rounding error, and where a ReLU
                then flips, gradients agree to about 1e-3 only. Give ``(1,)`` for convolutions that
                have no tiles, ``(6, 4)`` where F(6) and F(4) are mixed.
            further: Reach in pixels of terms on the picture itself, such as total variation.

        Returns:
            For VGG to ``relu5_1`` alignment and halo 96 with tiles of 6; 64 and 128 with tiles of
            4; 192 with both.
        """
        deepest = max((level_of(layer) for layer in layers), default=0)
        alignment = math.lcm(*tiles) << deepest
        needed = max(reach(layers), further)
        return cls(alignment, _round_up(needed, alignment))

    def exchanging(self) -> Spacing:
        """The same for pieces that exchange rows of features.

        The margin has whole tiles at every level, so that those of a piece lie where the whole
        picture's do.
        """
        return Spacing(self.alignment, self.alignment, exchanges=True)

    @property
    def smallest(self) -> int:
        """The smallest size of a band that is not the last: twice the halo.

        No pixel then lies in more than two pieces along an axis, so a pixel's gradient is the sum
        of at most two terms, which has the same bits in either order. Pieces that exchange rows
        add up nothing.
        """
        return self.alignment if self.exchanges else max(self.alignment, 2 * self.halo)

    def largest(self, size: int, length: int) -> int:
        """The most pixels that a piece computes along an axis of ``length``, cut at ``size``."""
        if size >= length:
            return length
        count = -(-length // size)
        last = length - (count - 1) * size
        if last < self.halo:  # it joins the piece before it
            count, last = count - 1, last + size
        if count == 1:
            return length
        return max(size + (2 if count > 2 else 1) * self.halo, last + self.halo)


@dataclass(frozen=True)
class Span:
    """One piece along one axis, in pixels of the picture.

    Attributes:
        index: Which piece along the axis, from 0.
        start: The first owned pixel.
        stop: The first pixel after the owned ones.
        low: The first computed pixel, ``low <= start``.
        high: The first pixel after the computed ones, ``stop <= high``.
        length: Pixels of the whole axis.
    """

    index: int
    start: int
    stop: int
    low: int
    high: int
    length: int

    @property
    def owned_length(self) -> int:
        """The number of owned pixels."""
        return self.stop - self.start

    @property
    def computed_length(self) -> int:
        """The number of computed pixels."""
        return self.high - self.low

    @property
    def is_first(self) -> bool:
        """Whether the picture's own edge is at the low end."""
        return self.start == 0

    @property
    def is_last(self) -> bool:
        """Whether the picture's own edge is at the high end."""
        return self.stop == self.length

    def owned(self, level: int = 0) -> slice:
        """The owned positions at a level, in positions of the whole picture's layer."""
        return slice(self.start >> level, self.stop >> level)

    def computed(self, level: int = 0) -> slice:
        """The computed positions at a level, in positions of the whole picture's layer."""
        first = self.low >> level
        return slice(first, first + (self.computed_length >> level))

    def owned_within(self, level: int = 0) -> slice:
        """The owned positions at a level, counted from the first computed one.

        This indexes what a network returns for the piece: ``features[..., rows, columns]``.
        """
        first = self.low >> level
        return slice((self.start >> level) - first, (self.stop >> level) - first)

    def count(self, level: int = 0) -> int:
        """The number of owned positions at a level; 0 where a short last piece has none left."""
        return (self.stop >> level) - (self.start >> level)


def spans(length: int, size: int, spacing: Spacing) -> tuple[Span, ...]:
    """Cut an axis into pieces.

    Args:
        length: Pixels of the axis, at least 1.
        size: Owned pixels of every piece but the last: a multiple of the alignment and at least
            ``spacing.smallest``; or any number from ``length`` on, which gives one piece.
        spacing: Alignment and halo.

    Returns:
        The pieces in order. A rest shorter than the halo joins the last piece, so the last piece
        owns from ``max(1, halo)`` to ``size + halo - 1`` pixels.

    Raises:
        ValueError: for a size that the spacing does not allow.
    """
    if length < 1:
        message = f"an axis of {length} pixels cannot be cut"
        raise ValueError(message)
    if size >= length:
        return (Span(0, 0, length, 0, length, length),)
    if size % spacing.alignment or size < spacing.smallest:
        message = (
            f"pieces of {size} pixels: expected a multiple of {spacing.alignment}, "
            f"at least {spacing.smallest}"
        )
        raise ValueError(message)
    starts = list(range(0, length, size))
    if len(starts) > 1 and length - starts[-1] < spacing.halo:
        starts.pop()
    stops = [*starts[1:], length]
    return tuple(
        Span(k, a, b, max(0, a - spacing.halo), min(length, b + spacing.halo), length)
        for k, (a, b) in enumerate(zip(starts, stops, strict=True))
    )


@dataclass(frozen=True)
class Tile:
    """One piece of a picture: a band, if its columns are the whole width.

    Attributes:
        index: Which piece, row by row, from 0. Whatever is added in floating point over several
            tiles is added in this order.
        rows: Its rows.
        columns: Its columns.
        exchanges: Whether rows of features come from its neighbours; then all of its computed rows
            but its own and one on either side are a margin, and nothing is read there.
    """

    index: int
    rows: Span
    columns: Span
    exchanges: bool = False

    @property
    def read(self) -> tuple[int, int]:
        """The first row of pixels that is read for it, and the row after the last."""
        if not self.exchanges:
            return self.rows.low, self.rows.high
        return max(self.rows.low, self.rows.start - 1), min(self.rows.high, self.rows.stop + 1)

    def count(self, level: int = 0) -> int:
        """The number of owned positions at a level."""
        return self.rows.count(level) * self.columns.count(level)

    @property
    def computed_pixels(self) -> int:
        """The number of pixels that are computed for this piece, halo included."""
        return self.rows.computed_length * self.columns.computed_length


@dataclass(frozen=True)
class Grid:
    """A picture cut into bands, or into tiles.

    Attributes:
        height: Rows of the picture.
        width: Columns of the picture.
        rows: The bands, from top to bottom.
        columns: The pieces of each band, from left to right; one where only rows are cut.
        exchanges: Whether the bands that a process owns are one piece, which exchanges rows of
            features with those of others.
    """

    height: int
    width: int
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    exchanges: bool = False

    @classmethod
    def cut(
        cls, height: int, width: int, spacing: Spacing, rows: int = 0, columns: int = 0
    ) -> Grid:
        """Cut a picture.

        Args:
            height: Rows of the picture.
            width: Columns of the picture.
            spacing: Alignment and halo.
            rows: Owned rows of a band; 0 leaves the height whole.
            columns: Owned columns of a tile; 0 leaves the width whole.

        Raises:
            ValueError: for sizes that the spacing does not allow.
        """
        return cls(
            height,
            width,
            spans(height, rows or height, spacing),
            spans(width, columns or width, spacing),
            spacing.exchanges,
        )

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Tile]:
        for row in self.rows:
            for column in self.columns:
                yield Tile(row.index * len(self.columns) + column.index, row, column)

    @property
    def is_whole(self) -> bool:
        """Whether there is one piece, the picture itself."""
        return len(self) == 1

    @property
    def largest(self) -> tuple[int, int]:
        """The most rows and the most columns that any piece computes: one workspace serves all."""
        return (
            max(span.computed_length for span in self.rows),
            max(span.computed_length for span in self.columns),
        )

    @property
    def computed_pixels(self) -> int:
        """Pixels computed over all pieces; at least ``height * width``, more by the halos."""
        return sum(s.computed_length for s in self.rows) * sum(
            s.computed_length for s in self.columns
        )

    def share(self, party: int, parties: int) -> range:
        """The bands that one of several parties computes: consecutive, as evenly as can be.

        Of all ways to cut a row of bands into so many parts, each of one band or more, it is one
        whose largest part has the fewest rows: all wait for that part's owner.

        Args:
            party: Which, from 0.
            parties: How many, no more than there are bands.
        """
        rows = [self._rows_of(band) for band in self.rows]
        limits = range(max(rows), sum(rows) + 1)
        least = bisect_left(limits, True, key=lambda most: len(_fill(rows, most)) <= parties)
        starts = [*_fill(rows, limits[least], parties), len(rows)]
        return range(starts[party], starts[party + 1])

    def _rows_of(self, band: Span) -> int:
        """The rows that are computed for a band by a party that has others too."""
        return band.owned_length if self.exchanges else band.computed_length


def _fill(rows: Sequence[int], most: int, parts: int = 0) -> list[int]:
    """Where parts begin that take bands in order, each until the next would be too much.

    Args:
        rows: Those of each band, no more than ``most``.
        most: The most rows of a part.
        parts: So many are left a band each at least, if they are not enough otherwise.
    """
    starts, filled = [0], 0
    for index, count in enumerate(rows):
        if filled + count > most or len(rows) - index == parts - len(starts):
            starts.append(index)
            filled = 0
        filled += count
    return starts


@dataclass(frozen=True)
class Part:
    """What one band contributes to a range of rows.

    Attributes:
        index: The band.
        within: The rows, counted from the band's first owned row.
        of_range: The same rows, counted from the range's first.
    """

    index: int
    within: slice
    of_range: slice


def parts(bands: Sequence[Span], low: int, high: int) -> Iterator[Part]:
    """The bands whose owned rows make up the rows ``low`` to ``high - 1``, in order."""
    for band in bands:
        first, last = max(low, band.start), min(high, band.stop)
        if first < last:
            yield Part(
                band.index,
                slice(first - band.start, last - band.start),
                slice(first - low, last - low),
            )


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
