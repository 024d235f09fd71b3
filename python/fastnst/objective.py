"""The objective in normal form (Gatys et al. 2015, equation 7):

    L(x) = α · Σ_l v_l · c_l + β · Σ_l w_l · g_l + τ · tv(x)

with the content losses c_l, style losses g_l and total variation of ``losses/``. Every term is a mean,
so the weights α, β, v_l, w_l, τ keep their meaning when the size of the picture changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastnst.blending import Statistics, describe, style_loss_of
from fastnst.errors import InvalidInput
from fastnst.images import digest
from fastnst.kept import Kept
from fastnst.losses import ContentLoss, Normalization, TotalVariationLoss, scale_gradient
from fastnst.network import VGG
from fastnst.regions import Region, everywhere
from fastnst.settings import Settings
from fastnst.weights import Weights


@dataclass(frozen=True)
class Terms:
    """The value of the objective at a picture, whole and in parts (all 0-dimensional).

    Attributes:
        total: L, the weighted sum.
        content: c_l by layer, unweighted.
        style: g_l by layer, unweighted.
        tv: tv(x), unweighted; zero where its weight is zero (it is not computed then).
    """

    total: Tensor
    content: Mapping[str, Tensor]
    style: Mapping[str, Tensor]
    tv: Tensor


class Objective(nn.Module):
    """L(x) as a module: everything fixed before the optimisation, waiting for a picture.

    Args:
        network: VGG, deep enough for every layer below.
        normalize: From the picture to the network's input.
        content: ``{layer: loss}``, modules from features to a 0-dimensional loss.
        style: Likewise.
        content_weight: α.
        style_weight: β.
        content_layer_weights: ``{layer: v_l}``, one for each layer of ``content``.
        layer_weights: ``{layer: w_l}``, one for each layer of ``style``.
        tv_weight: τ.
        tv: The total variation, from a picture to a 0-dimensional loss.
        gradient_norm: ``"none"``, or ``"l1"`` or ``"l2"``: see ``losses/gradients.py``.
    """

    def __init__(
        self,
        network: VGG,
        normalize: Normalization,
        content: Mapping[str, nn.Module],
        style: Mapping[str, nn.Module],
        *,
        content_weight: float,
        style_weight: float,
        content_layer_weights: Mapping[str, float],
        layer_weights: Mapping[str, float],
        tv_weight: float = 0.0,
        tv: nn.Module | None = None,
        gradient_norm: str = "none",
    ) -> None:
        super().__init__()
        self.network = network
        self.normalize = normalize
        self.content = nn.ModuleDict(content)
        self.style = nn.ModuleDict(style)
        self.tv = tv or TotalVariationLoss()
        self.content_weight = content_weight
        self.style_weight = style_weight
        self.content_layer_weights = dict(content_layer_weights)
        self.layer_weights = dict(layer_weights)
        self.tv_weight = tv_weight
        self.gradient_norm = gradient_norm
        self.layers = tuple({*content, *style})

    def content_factor(self, layer: str) -> float:
        """α v_l, the weight of a content loss in the total."""
        return self.content_weight * self.content_layer_weights[layer]

    def style_factor(self, layer: str) -> float:
        """β w_l, the weight of a style loss in the total."""
        return self.style_weight * self.layer_weights[layer]

    def forward(self, image: Tensor) -> Terms:
        """The terms at ``image`` ``(1, 3, H, W)``, RGB in [0, 1] and a little beyond."""
        features = self.network(self.normalize(image), self.layers) if self.layers else {}
        content = {
            name: self._term(loss, features[name], self.content_factor(name))
            for name, loss in self.content.items()
        }
        style = {
            name: self._term(loss, features[name], self.style_factor(name))
            for name, loss in self.style.items()
        }
        return self.terms(content, style, self.tv(image) if self.tv_weight else image.new_zeros(()))

    def terms(
        self, content: Mapping[str, Tensor], style: Mapping[str, Tensor], tv: Tensor
    ) -> Terms:
        """The losses (0-dimensional) with their weighted sum."""
        total = self.tv_weight * tv
        for name, loss in content.items():
            total = total + self.content_factor(name) * loss
        for name, loss in style.items():
            total = total + self.style_factor(name) * loss
        return Terms(total, content, style, tv)

    def _term(self, loss: nn.Module, features: Tensor, weight: float) -> Tensor:
        """One loss; its gradient is normalised where that is asked for."""
        if self.gradient_norm != "none" and features.requires_grad:
            features = scale_gradient(features, weight, self.gradient_norm)
        value: Tensor = loss(features)
        return value


def build_objective(
    weights: Weights,
    content: Tensor,
    style: Tensor | Sequence[Tensor],
    settings: Settings,
    backend: str = "auto",
    regions: Sequence[Region] | None = None,
    kept: Kept | None = None,
) -> Objective:
    """Compute the targets of one content and the style pictures and set up the objective.

    Args:
        weights: What ``load_weights`` returns.
        content: ``(1, 3, H, W)``, RGB in [0, 1]; the result has its size.
        style: ``(1, 3, h, w)``, RGB in [0, 1], of any size; or several, blended as the settings say.
        settings: Layers, weights of the terms, statistics, pooling and padding are read from here.
            A term with weight 0 is left out and its layers are not computed.
        backend: For the style losses.
        regions: Which style goes where; None: all of them everywhere.
        kept: The networks and style targets of earlier objectives, to be used again.

    Returns:
        The objective, on the device and in the dtype of ``content``.

    Raises:
        InvalidInput: for an unknown layer, a picture too small for the deepest layer, or settings
            for another number of style pictures.
    """
    styles = [style] if isinstance(style, Tensor) else list(style)
    content_layers = settings.content_weights() if settings.content_weight else {}
    layer_weights = settings.layer_weights() if settings.style_weight else {}
    names = (*content_layers, *layer_weights)
    architecture = weights.architecture
    settings.blend(len(styles))
    smallest = architecture.smallest_side(names)
    check_size("content", content, smallest)
    for index, picture in enumerate(styles if layer_weights else (), start=1):
        check_size("style" if len(styles) == 1 else f"style {index}", picture, smallest)
    kept = kept or Kept()
    source = (weights.name, weights.sha256, weights.preprocessing)
    key = (source, names, settings.pooling, settings.padding, content.device, content.dtype)
    network = kept.get(
        "network",
        key,
        lambda: VGG(architecture, weights.tensors, names, settings.pooling, settings.padding).to(
            content
        ),
    )
    normalize = Normalization(weights.preprocessing.mean, weights.preprocessing.std).to(content)
    masked = regions is not None
    regions = everywhere(len(styles)) if regions is None else regions
    with torch.no_grad():
        targets = network(normalize(content), content_layers) if content_layers else {}

    def description(index: int, picture: Tensor) -> dict[str, Statistics]:
        """Of one style picture, by layer."""

        def describe_layers() -> dict[str, Statistics]:
            with torch.no_grad():
                features = network(normalize(picture), layer_weights)
                return {
                    name: describe(features[name], index, settings, regions, backend)
                    for name in layer_weights
                }

        if masked:  # its statistics are of the region that it is for
            return describe_layers()
        made_from = (*key, backend, index, len(styles), settings.statistics, digest(picture))
        return kept.get("style targets", made_from, describe_layers)

    descriptions = [
        description(index, picture) for index, picture in enumerate(styles if layer_weights else ())
    ]
    style_losses = {
        name: style_loss_of(
            [described[name] for described in descriptions],
            architecture.size_at(name, (content.shape[-2], content.shape[-1])),
            settings,
            regions,
            backend,
        )
        for name in layer_weights
    }
    return Objective(
        network,
        normalize,
        content={name: ContentLoss(targets[name]) for name in content_layers},
        style=style_losses,
        content_weight=settings.content_weight,
        style_weight=settings.style_weight,
        content_layer_weights=content_layers,
        layer_weights=layer_weights,
        tv_weight=settings.tv_weight,
        tv=TotalVariationLoss(settings.tv_form),
        gradient_norm=settings.gradient_norm,
    ).to(content)


def check_size(label: str, picture: Tensor, smallest: int) -> None:
    """Raise InvalidInput if a side of ``picture`` ``(1, 3, H, W)`` is below ``smallest`` pixels."""
    height, width = picture.shape[-2:]
    if min(height, width) < smallest:
        raise InvalidInput(
            f"the {label} picture is {width}×{height} pixels when scaled; the deepest layer in use "
            f"needs at least {smallest} on each side: use a larger picture or size, or fewer layers"
        )
