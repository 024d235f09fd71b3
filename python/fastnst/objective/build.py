"""From pictures and settings to an objective: the targets are computed here."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fastnst.cache import Cache
from fastnst.devices import ordinary, undisturbed
from fastnst.errors import InvalidInput
from fastnst.fingerprint import digest
from fastnst.losses import ContentLoss, TemporalLoss, TotalVariationLoss
from fastnst.network.architecture import Architecture
from fastnst.network.normalization import Normalization
from fastnst.network.vgg import VGG
from fastnst.network.weights import Weights
from fastnst.objective.bands import content_features, describe_in_bands
from fastnst.objective.blending import Statistics, describe, style_loss_of
from fastnst.objective.objective import Objective
from fastnst.objective.regions import Region, everywhere
from fastnst.ranks.protocol import Communication
from fastnst.settings.settings import Settings


@undisturbed()
def build_objective(
    weights: Weights,
    content: Tensor,
    style: Tensor | Sequence[Tensor],
    settings: Settings,
    backend: str = "auto",
    regions: Sequence[Region] | None = None,
    cache: Cache | None = None,
    pixels: int | None = None,
    targets: bool = True,
    temporal: tuple[float, TemporalLoss] | None = None,
    device: torch.device | None = None,
    communication: Communication | None = None,
) -> Objective:
    """Compute the targets of one content and the style pictures and set up the objective.

    Args:
        weights: What ``load_weights`` returns.
        content: ``(1, 3, H, W)``, RGB in [0, 1]; the result has its size.
        style: ``(1, 3, h, w)``, RGB in [0, 1], of any size; or several, blended as the settings
            say.
        settings: Layers, weights of the terms, statistics, pooling and padding are read from here.
            A term with weight 0 is left out and its layers are not computed.
        backend: What computes the style losses; see ``fastnst.style_loss``.
        regions: Which style goes where; None: all of them everywhere.
        cache: The networks and style targets of earlier objectives, to be used again.
        pixels: About how many pixels of a picture to compute at a time; None: all.
        targets: Whether to compute the content targets; if not they are empty, for an engine that
            makes them itself.
        temporal: γ and the temporal term of a frame of a film; None: there is none.
        device: Where the objective is to be, for pictures that lie elsewhere; content targets are
            then left to the engine. None: where the pictures are.
        communication: How this process speaks to others that build the same together, each a part
            of the targets of large style pictures; None: there are none.

    Returns:
        The objective, on that device and in the dtype of ``content``.

    Raises:
        InvalidInput: for a picture that is no floats ``(1, 3, H, W)``, an unknown layer, a picture
            too small for the deepest layer, or settings for another number of style pictures.
    """
    content, settings = ordinary(content), settings.balanced()
    styles = [ordinary(x) for x in ([style] if isinstance(style, Tensor) else style)]
    content_layers = settings.content_weights() if settings.content_weight else {}
    layer_weights = settings.layer_weights() if settings.style_weight else {}
    names = (*content_layers, *layer_weights)
    architecture = weights.architecture
    settings.blend(len(styles))
    for label, picture in (("content", content), *(("style", style) for style in styles)):
        is_picture = picture.ndim == 4 and tuple(picture.shape[:2]) == (1, 3)
        if not is_picture or not picture.is_floating_point():
            several = "; give several styles as a list" if label == "style" else ""
            raise InvalidInput(
                f"{label} has shape {tuple(picture.shape)} and is {picture.dtype}: expected floats "
                f"(1, 3, H, W){several}"
            )
    sizes = [(picture.shape[-1], picture.shape[-2]) for picture in (content, *styles)]
    check_sizes(architecture, settings, sizes[0], sizes[1:])
    cache = cache or Cache()
    source = (weights.name, weights.sha256, weights.preprocessing)
    like = content.new_empty(0, device=content.device if device is None else device)
    key = (source, names, settings.pooling, settings.padding, like.device, content.dtype)
    pooling, padding = settings.pooling, settings.padding
    network = cache.get(
        "network",
        key,
        lambda: VGG(architecture, weights.tensors, names, pooling, padding).to(like),
    )
    normalize = Normalization(weights.preprocessing.mean, weights.preprocessing.std).to(like)
    if not content_layers or not targets or like.device != content.device:
        features = {name: like.new_empty(0, 0, 0, 0) for name in content_layers}
    elif pixels is None or content.shape[-2] * content.shape[-1] <= pixels:
        with torch.no_grad():
            features = network(normalize(content), content_layers)
    else:
        features = content_features(network, normalize, content, content_layers, pixels)
    describer = _Describer(
        *(network, normalize, settings, backend, regions, tuple(layer_weights), pixels),
        communication,
    )
    descriptions = [
        describer.describe(index, styles, cache, key)
        for index in range(len(styles) if layer_weights else 0)
    ]
    style_losses = {
        name: style_loss_of(
            [described[name] for described in descriptions],
            architecture.size_at(name, (content.shape[-2], content.shape[-1])),
            settings,
            everywhere(len(styles)) if regions is None else regions,
            backend,
        )
        for name in layer_weights
    }
    objective = Objective(
        network,
        normalize,
        content={name: ContentLoss(features[name]) for name in content_layers},
        style=style_losses,
        content_weight=settings.content_weight,
        style_weight=settings.style_weight,
        content_layer_weights=content_layers,
        layer_weights=layer_weights,
        tv_weight=settings.tv_weight,
        tv=TotalVariationLoss(settings.tv_form),
        gradient_norm=settings.gradient_norm,
    ).to(like)
    if temporal is not None:  # it sees the picture itself, and lies where that is
        objective.temporal_weight, objective.temporal = temporal[0], temporal[1].to(content)
    return objective


@dataclass(frozen=True)
class _Describer:
    """Computes the statistics of style pictures.

    Attributes:
        network: VGG, deep enough for the layers.
        normalize: From the picture to the network's input.
        settings: ``statistics`` is read.
        backend: What computes Gram matrices.
        regions: Which style goes where; None: all of them everywhere.
        layers: The layers of the style.
        pixels: About how many pixels to compute at a time; None: all.
        communication: How this process speaks to those that compute the same; None: there are none.
    """

    network: VGG
    normalize: Normalization
    settings: Settings
    backend: str
    regions: Sequence[Region] | None
    layers: tuple[str, ...]
    pixels: int | None = None
    communication: Communication | None = None

    def describe(
        self, index: int, styles: Sequence[Tensor], cache: Cache, made_with: tuple[Hashable, ...]
    ) -> Mapping[str, Statistics]:
        """The statistics of one of the style pictures, by layer.

        Args:
            index: Which of them.
            styles: All of them, ``(1, 3, h, w)`` each.
            cache: Those of earlier objectives; without regions they are looked up there.
            made_with: What identifies the network.
        """
        picture, statistics = styles[index], self.settings.statistics
        if self.regions is not None:  # the statistics of those parts that are for a region
            return self._compute(picture, index, self.regions)
        seen = digest(picture)
        of = (self.layers, self.backend, index, len(styles), statistics, seen, self.pixels)
        key = (*made_with, *of)  # the network's layers do not say which of them are the style's
        whole = everywhere(len(styles))
        return cache.get("style targets", key, lambda: self._compute(picture, index, whole))

    def _compute(
        self, picture: Tensor, index: int, regions: Sequence[Region]
    ) -> Mapping[str, Statistics]:
        if self.pixels is not None and picture.shape[-2] * picture.shape[-1] > self.pixels:
            return describe_in_bands(
                *(self.network, self.normalize, picture, index, self.layers, regions),
                self.settings.statistics,
                self.pixels,
                self.communication,
            )
        with torch.no_grad():
            here = picture.to(self.normalize.mean.device)
            features = self.network(self.normalize(here), self.layers)
            return {
                name: describe(features[name], index, self.settings, regions, self.backend)
                for name in self.layers
            }


def check_sizes(
    architecture: Architecture,
    settings: Settings,
    content: tuple[int, int],
    styles: Sequence[tuple[int, int]],
) -> None:
    """Make sure that the network has the layers, and the pictures a pixel at the deepest of them.

    Args:
        architecture: The network.
        settings: Layers and weights are read from here.
        content: Width and height of the content picture, scaled.
        styles: Those of the style pictures.

    Raises:
        InvalidInput: naming the layer or the picture.
    """
    content_layers = settings.content_layers if settings.content_weight else ()
    style_layers = settings.style_layers if settings.style_weight else ()
    smallest = architecture.smallest_side((*content_layers, *style_layers))
    _check_size("content", content, smallest)
    for index, size in enumerate(styles if style_layers else (), start=1):
        _check_size("style" if len(styles) == 1 else f"style {index}", size, smallest)


def _check_size(label: str, size: tuple[int, int], smallest: int) -> None:
    width, height = size
    if min(size) < smallest:
        raise InvalidInput(
            f"the {label} picture is {width}×{height} pixels when scaled; the deepest layer in use "
            f"needs at least {smallest} on each side: use a larger picture or size, or fewer layers"
        )
