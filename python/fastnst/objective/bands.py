"""Targets of pictures whose features do not fit in memory: computed a band of rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from fastnst.losses import STYLE_LOSSES
from fastnst.losses.guidance import guide
from fastnst.network.normalization import Normalization
from fastnst.network.vgg import VGG
from fastnst.objective.regions import Region
from fastnst.strips.geometry import Spacing, Span, level_of, spans


def content_features(
    network: VGG, normalize: Normalization, picture: Tensor, names: Iterable[str], pixels: int
) -> dict[str, Tensor]:
    """The features of a picture ``(1, 3, H, W)``, channels_last, by layer.

    Args:
        network: VGG, deep enough for the layers.
        normalize: From the picture to the network's input.
        picture: RGB in [0, 1].
        names: The layers.
        pixels: About how many pixels to compute at a time.
    """
    found: dict[str, Tensor] = {}
    for band, features in _bands(network, normalize, picture, tuple(names), pixels):
        for name, owned in features.items():
            if name not in found:
                size = network.architecture.size_at(name, _size(picture))
                found[name] = torch.empty(
                    (1, owned.shape[1], *size),
                    dtype=picture.dtype,
                    device=picture.device,
                    memory_format=torch.channels_last,
                )
            found[name][:, :, band.owned(level_of(name))] = owned
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
) -> dict[str, dict[tuple[int, str], tuple[Tensor, ...]]]:
    """The statistics of a style picture, as ``describe`` has them, by layer.

    Args:
        network: VGG, deep enough for the layers.
        normalize: From the picture to the network's input.
        picture: The style picture ``(1, 3, h, w)``, RGB in [0, 1].
        index: Which of the style pictures it is.
        names: The layers.
        regions: Where each style goes.
        statistics: Keys of ``STYLE_LOSSES``.
        pixels: About how many pixels to compute at a time.
    """
    mine = [r for r, region in enumerate(regions) if index in region.styles]
    sizes = {name: network.architecture.size_at(name, _size(picture)) for name in names}
    maps = {(r, n): regions[r].style_guidance(index, sizes[n]) for r in mine for n in names}
    first: dict[tuple[int, str], Tensor] = {}
    second: dict[tuple[int, str], Tensor] = {}
    for band, features in _bands(network, normalize, picture, tuple(names), pixels):
        for key, guidance in maps.items():
            rows = None if guidance is None else guidance[band.owned(level_of(key[1]))]
            guided = guide(features[key[1]], rows)
            flat = guided[0].flatten(1)
            gram = (flat @ flat.T).double()
            mean = guide(guided, rows)[0].double().sum((1, 2))
            second[key] = second[key] + gram if key in second else gram
            first[key] = first[key] + mean if key in first else mean
    found: dict[str, dict[tuple[int, str], tuple[Tensor, ...]]] = {name: {} for name in names}
    for (r, name), gram in second.items():
        count = sizes[name][0] * sizes[name][1]
        for statistic in statistics:
            targets = STYLE_LOSSES[statistic].statistics_of(first[r, name] / count, gram / count)
            found[name][r, statistic] = tuple(target.to(picture.dtype) for target in targets)
    return found


def _bands(
    network: VGG, normalize: Normalization, picture: Tensor, names: tuple[str, ...], pixels: int
) -> Iterator[tuple[Span, dict[str, Tensor]]]:
    """Each band with its owned features by layer, ``(1, C, rows, W)``."""
    spacing = Spacing.of(network.architecture.up_to(names), (1,))
    height, width = _size(picture)
    rows = max(spacing.smallest, pixels // width // spacing.alignment * spacing.alignment)
    for band in spans(height, rows, spacing):
        with torch.no_grad():
            features = network(normalize(picture[..., band.low : band.high, :]), names)
        yield (
            band,
            {
                name: x[:, :, band.owned_within(level_of(name))].to(picture.dtype)
                for name, x in features.items()
            },
        )


def _size(picture: Tensor) -> tuple[int, int]:
    return picture.shape[-2], picture.shape[-1]
