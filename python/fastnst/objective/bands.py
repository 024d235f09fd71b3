"""Targets of pictures whose features do not fit in memory: computed a piece at a time.

The picture may lie in main memory and the network on a GPU: pieces go there one after the other.
Where several ranks share a result each computes a part of the pieces; results do not depend on how
many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from fastnst.losses import STYLE_LOSSES
from fastnst.losses.guidance import guide
from fastnst.network.normalization import Normalization
from fastnst.network.vgg import VGG
from fastnst.objective.regions import Region
from fastnst.ops.reference import products
from fastnst.ranks.protocol import Alone, Communication
from fastnst.strips.budget import choose_grid
from fastnst.strips.geometry import Grid, Spacing, Tile, level_of
from fastnst.strips.sums import GramSum, WideSum


def content_features(
    network: VGG,
    normalize: Normalization,
    picture: Tensor,
    names: Iterable[str],
    pixels: int,
    rows: tuple[int, int] | None = None,
) -> dict[str, Tensor]:
    """The features of a picture ``(1, 3, H, W)``, channels_last, by layer, where the picture is.

    Args:
        network: VGG, deep enough for the layers.
        normalize: From the picture to the network's input.
        picture: RGB in [0, 1].
        names: The layers.
        pixels: About how many pixels to compute at a time.
        rows: The first of the picture's rows whose features are needed, and the one after the last;
            what is found for others means nothing. None: all of them.
    """

    def wanted(tile: Tile) -> bool:
        return rows is None or (tile.rows.start < rows[1] and rows[0] < tile.rows.stop)

    found: dict[str, Tensor] = {}
    for tile, features in _pieces(network, normalize, picture, tuple(names), pixels, wanted):
        for name, owned in features.items():
            if name not in found:
                size = network.architecture.size_at(name, _size(picture))
                found[name] = torch.empty(
                    (1, owned.shape[1], *size),
                    dtype=picture.dtype,
                    device=picture.device,
                    memory_format=torch.channels_last,
                )
            level = level_of(name)
            found[name][:, :, tile.rows.owned(level), tile.columns.owned(level)] = owned
    return found


def describe_in_bands(
    network: VGG,
    normalize: Normalization,
    picture: Tensor,
    index: int,
    names: Sequence[str],
    regions: Sequence[Region],
    statistics: Sequence[str],
    pixels: int,
    communication: Communication | None = None,
) -> dict[str, dict[tuple[int, str], tuple[Tensor, ...]]]:
    """The statistics of a style picture, as ``describe`` has them, by layer, where the network is.

    Args:
        network: VGG, deep enough for the layers.
        normalize: From the picture to the network's input.
        picture: The style picture ``(1, 3, h, w)``, RGB in [0, 1].
        index: Which of the style pictures it is.
        names: The layers.
        regions: Where each style goes.
        statistics: Keys of ``STYLE_LOSSES``.
        pixels: About how many pixels to compute at a time.
        communication: How this process speaks to others that want the same, all of which call it
            together; None: there are none.
    """
    speech = communication or Alone()

    def wanted(tile: Tile) -> bool:
        return tile.index % speech.ranks == speech.rank

    mine = [r for r, region in enumerate(regions) if index in region.styles]
    sizes = {name: network.architecture.size_at(name, _size(picture)) for name in names}
    maps = {(r, n): regions[r].style_guidance(index, sizes[n]) for r in mine for n in names}
    channels = {name: network.architecture.channels_of(name) for name in names}
    positions = {name: height * width for name, (height, width) in sizes.items()}
    first = {key: WideSum((channels[key[1]],), positions[key[1]]) for key in maps}
    second = {key: GramSum(channels[key[1]], positions[key[1]]) for key in maps}
    for tile, features in _pieces(network, normalize, picture, tuple(names), pixels, wanted):
        for key, guidance in maps.items():
            level = level_of(key[1])
            here = None
            if guidance is not None:
                here = guidance[tile.rows.owned(level), tile.columns.owned(level)]
            guided = guide(features[key[1]], here)
            flat = guided[0].flatten(1)
            second[key].add(products(flat).double())
            first[key].add(guide(guided, here)[0].double().sum((1, 2)))
    sums: tuple[WideSum | GramSum, ...] = (*first.values(), *second.values())
    speech.reduce_exact(*(table for one in sums for table in one.tables))
    found: dict[str, dict[tuple[int, str], tuple[Tensor, ...]]] = {name: {} for name in names}
    for r, name in maps:
        mean, gram = (
            one[r, name].value().to(normalize.mean.device) / positions[name]
            for one in (first, second)
        )
        for statistic in statistics:
            targets = STYLE_LOSSES[statistic].statistics_of(mean, gram)
            found[name][r, statistic] = tuple(target.to(picture.dtype) for target in targets)
    return found


def _pieces(
    network: VGG,
    normalize: Normalization,
    picture: Tensor,
    names: tuple[str, ...],
    pixels: int,
    wanted: Callable[[Tile], bool],
) -> Iterator[tuple[Tile, dict[str, Tensor]]]:
    """Each piece that is wanted with its owned features by layer, ``(1, C, rows, columns)``."""
    spacing = Spacing.of(network.architecture.up_to(names), (1,))
    for tile in filter(wanted, _grid(*_size(picture), pixels, spacing)):
        rows, columns = tile.rows, tile.columns
        with torch.no_grad():
            part = picture[..., rows.low : rows.high, columns.low : columns.high]
            part = part.to(normalize.mean.device)
            features = network(normalize(part), names)
        owned = {}
        for name, found in features.items():
            level = level_of(name)
            x = found[:, :, rows.owned_within(level), columns.owned_within(level)]
            owned[name] = x.to(picture.dtype)
        yield tile, owned


def _grid(height: int, width: int, pixels: int, spacing: Spacing) -> Grid:
    """Bands, or else tiles, that compute at most this many pixels; the smallest if none do."""
    least = spacing.largest(spacing.smallest, height) * spacing.largest(spacing.smallest, width)
    return choose_grid(height, width, 1, max(pixels, least), spacing)


def _size(picture: Tensor) -> tuple[int, int]:
    return picture.shape[-2], picture.shape[-1]
