"""The colour steps of ``colour.py`` for pictures that are read by rows.

What is added over a picture is added in float64, strip by strip; what maps colours is applied when
rows are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastnst.images import colour
from fastnst.images.colour import Moments
from fastnst.images.pixels import Pixels
from fastnst.images.rows import RowSource, strips, to_tensor_rows
from fastnst.strips.storage import Store

_ORIGIN = 0.5  # what is subtracted before squares are added: mid-grey, near any picture's mean


def moments(source: RowSource, membership: Tensor | None = None) -> Moments:
    """``colour.moments``: mean (3, 1) and covariance (3, 3) of the colours, float64.

    Args:
        source: The picture.
        membership: How much each pixel counts, ``(H, W)`` in [0, 1] on the CPU, not all 0; None:
            all alike.
    """
    total = torch.zeros(3, 1, dtype=torch.float64, device="cpu")
    squares = torch.zeros(3, 3, dtype=torch.float64, device="cpu")
    count = 0.0
    for start, stop in strips(source):
        colours = counted = _colours(source, start, stop) - _ORIGIN
        if membership is None:
            count += colours.shape[1]
        else:
            weights = membership[start:stop].flatten().double()
            counted, count = weights * colours, count + float(weights.sum())
        total += counted.sum(1, keepdim=True)
        squares += counted @ colours.T
    mean = total / count
    return mean + _ORIGIN, colour.never_singular(squares / count - mean @ mean.T)


class MatchedRows:
    """``colour.match_colours``: a picture with the mean and covariance of other pictures' colours.

    Args:
        source: The picture.
        references: The others.
        weights: Proportions of their mixture, with sum 1; None: equal.
        membership: How much each pixel of the picture counts, as for ``moments``. All of the
            picture is recoloured.
        memberships: The same for each of the others; None: all pixels alike.
    """

    def __init__(
        self,
        source: RowSource,
        references: Sequence[RowSource],
        weights: Sequence[float] | None = None,
        membership: Tensor | None = None,
        memberships: Sequence[Tensor | None] | None = None,
    ) -> None:
        self._source = source
        self.height, self.width = source.height, source.width
        own = moments(source, membership)
        counted = memberships or [None] * len(references)
        found = [moments(*pair) for pair in zip(references, counted, strict=True)]
        wanted = colour.mixture(found, weights)
        self._mean, self._wanted = own[0], wanted[0]
        self._matrix = colour.transport(own, wanted)

    def rows(self, start: int, stop: int) -> Pixels:
        """The rows ``start`` to ``stop - 1``, clamped to [0, 1]."""
        colours = _colours(self._source, start, stop)
        return _pixels(self._matrix @ (colours - self._mean) + self._wanted, self.width)


class HistogramMatchedRows:
    """``colour.match_histogram``: a picture with the distribution of another's colours.

    Takes 24 bytes a pixel of either picture in ``store``, and 8 more for one axis of either.

    Args:
        source: The picture.
        reference: The other.
        store: For colours that change from rotation to rotation.
    """

    def __init__(self, source: RowSource, reference: RowSource, store: Store) -> None:
        self._store = store
        self.height, self.width = source.height, source.width
        self._colours = _stored_colours(MatchedRows(source, [reference]), store)
        wanted = _stored_colours(reference, store)
        own_axis = store.zeros((self._colours.shape[1],), torch.float64)
        wanted_axis = store.zeros((wanted.shape[1],), torch.float64)
        for axes in colour.rotations():
            maps = []
            for axis in axes.T:
                found = [
                    self._quantiles(colours, axis, scratch)
                    for colours, scratch in ((self._colours, own_axis), (wanted, wanted_axis))
                ]
                maps.append(found)
            for part in _parts(self._colours):
                projected = axes.T @ part
                part.copy_(
                    axes
                    @ torch.stack(
                        [
                            colour.between_quantiles(values, *quantiles)
                            for values, quantiles in zip(projected, maps, strict=True)
                        ]
                    )
                )
                store.release(part)

    def rows(self, start: int, stop: int) -> Pixels:
        """The rows ``start`` to ``stop - 1``, clamped to [0, 1]."""
        part = self._colours[:, start * self.width : stop * self.width]
        pixels = _pixels(part, self.width)
        self._store.release(part)
        return pixels

    def _quantiles(self, colours: Tensor, axis: Tensor, scratch: Tensor) -> Tensor:
        """The quantiles of colours along an axis."""
        for part, place in zip(_parts(colours), _parts(scratch[None]), strict=True):
            place[0] = axis @ part
            self._store.release(part)
        scratch.numpy().sort()  # in place, where torch makes copies
        found = colour.quantiles(scratch)
        self._store.release(scratch)
        return found


class RecolouredRows:
    """``colour.with_colours_of``: the luminance of one picture with the colours of another.

    Args:
        image: The picture whose luminance is kept.
        content: The picture whose colours are taken, of the same size.
    """

    def __init__(self, image: RowSource, content: RowSource) -> None:
        self._image, self._content = image, content
        self.height, self.width = image.height, image.width

    def rows(self, start: int, stop: int) -> Pixels:
        """The rows ``start`` to ``stop - 1``, clamped to [0, 1]."""
        image = to_tensor_rows(self._image, start, stop)
        content = to_tensor_rows(self._content, start, stop)
        return _pixels(colour.with_colours_of(image, content)[0].flatten(1), self.width)


class GreyRows:
    """``colour.grey``: the luminance of a picture as a grey picture.

    Args:
        source: The picture.
        like: A picture whose mean and standard deviation of luminance it is given, or None.
    """

    def __init__(self, source: RowSource, like: RowSource | None = None) -> None:
        self._source = source
        self.height, self.width = source.height, source.width
        self._map: tuple[float, float, float] | None = None
        if like is not None:
            mean, deviation = _luminance_moments(source)
            wanted, wanted_deviation = _luminance_moments(like)
            self._map = mean, wanted_deviation / max(deviation, 1e-6), wanted

    def rows(self, start: int, stop: int) -> Pixels:
        """The rows ``start`` to ``stop - 1``."""
        y = colour.luminance(to_tensor_rows(self._source, start, stop))
        if self._map is not None:
            mean, scale, wanted = self._map
            y = ((y.double() - mean) * scale + wanted).clamp(0, 1)
        return _pixels(y.expand(-1, 3, -1, -1)[0].flatten(1), self.width)


def _luminance_moments(source: RowSource) -> tuple[float, float]:
    """Mean and standard deviation (of the population) of a picture's luminance."""
    total = squares = 0.0
    for start, stop in strips(source):
        y = colour.luminance(to_tensor_rows(source, start, stop)).double() - _ORIGIN
        total += float(y.sum())
        squares += float(y.square().sum())
    count = source.height * source.width
    mean = total / count
    return mean + _ORIGIN, max(squares / count - mean**2, 0.0) ** 0.5


def _stored_colours(source: RowSource, store: Store) -> Tensor:
    """All colours of a picture, (3, H · W) float64, in a store."""
    colours = store.zeros((3, source.height * source.width), torch.float64)
    for start, stop in strips(source):
        part = colours[:, start * source.width : stop * source.width]
        part.copy_(_colours(source, start, stop))
        store.release(part)
    return colours


def _parts(colours: Tensor) -> tuple[Tensor, ...]:
    """Views of ``(k, n)`` of a quarter of a million columns each: 6 MB of colours."""
    return torch.split(colours, 1 << 18, dim=1)


def _colours(source: RowSource, start: int, stop: int) -> Tensor:
    """Rows of a picture as (3, n) float64."""
    return to_tensor_rows(source, start, stop)[0].flatten(1).double()


def _pixels(colours: Tensor, width: int) -> Pixels:
    """(3, n) to ``(n / width, width, 3)`` float32, clamped to [0, 1]."""
    rows = colours.clamp(0, 1).float().reshape(3, -1, width)
    pixels: Pixels = rows.permute(1, 2, 0).contiguous().numpy()
    return pixels
