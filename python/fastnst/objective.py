"""The objective in normal form (Gatys et al. 2015, equation 7):

    L(x) = α · Σ_l c_l + β · Σ_l w_l · g_l + τ · tv(x)

with the content losses c_l, style losses g_l and total variation of ``losses.py``. Every term is a
mean, so the weights α, β, w_l, τ keep their meaning when the size of the picture changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fastnst.errors import InvalidInput
from fastnst.images import digest
from fastnst.kept import Kept
from fastnst.losses import ContentLoss, Normalization, StyleLoss, TotalVariationLoss
from fastnst.network import VGG
from fastnst.ops import gram_matrix
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
        network: Cut after the deepest layer in use.
        normalize: From RGB in [0, 1] to the network's input.
        content: ``{layer: P_l}``, features of the content image, ``(1, C, h, w)``.
        style: ``{layer: A_l}``, Gram matrices of the style image, ``(C, C)``.
        content_weight: α.
        style_weight: β.
        layer_weights: ``{layer: w_l}``, one for each layer of ``style``.
        tv_weight: τ.
        backend: For the style losses: ``"auto"``, ``"torch"`` or ``"native"``.
    """

    def __init__(
        self,
        network: VGG,
        normalize: Normalization,
        content: Mapping[str, Tensor],
        style: Mapping[str, Tensor],
        *,
        content_weight: float,
        style_weight: float,
        layer_weights: Mapping[str, float],
        tv_weight: float = 0.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.network = network
        self.normalize = normalize
        self.content = nn.ModuleDict({k: ContentLoss(target) for k, target in content.items()})
        self.style = nn.ModuleDict({k: StyleLoss(gram, backend) for k, gram in style.items()})
        self.tv = TotalVariationLoss()
        self.content_weight = content_weight
        self.style_weight = style_weight
        self.layer_weights = dict(layer_weights)
        self.tv_weight = tv_weight
        self.layers = tuple({*content, *style})

    def forward(self, image: Tensor) -> Terms:
        """The terms at ``image`` ``(1, 3, H, W)``, RGB in [0, 1] and a little beyond."""
        features = self.network(self.normalize(image), self.layers) if self.layers else {}
        content = {name: loss(features[name]) for name, loss in self.content.items()}
        style = {name: loss(features[name]) for name, loss in self.style.items()}
        tv = self.tv(image) if self.tv_weight else image.new_zeros(())
        total = self.tv_weight * tv
        for loss in content.values():
            total = total + self.content_weight * loss
        for name, loss in style.items():
            total = total + self.style_weight * self.layer_weights[name] * loss
        return Terms(total, content, style, tv)


def build_objective(
    weights: Weights,
    content: Tensor,
    style: Tensor,
    settings: Settings,
    backend: str = "auto",
    kept: Kept | None = None,
) -> Objective:
    """Compute the targets of one content and one style picture and set up the objective.

    Args:
        weights: What ``load_weights`` returns.
        content: ``(1, 3, H, W)``, RGB in [0, 1]; the result has its size.
        style: ``(1, 3, h, w)``, RGB in [0, 1], of any size.
        settings: Layers, weights of the terms and pooling are read from here. A term with weight
            0 is left out and its layers are not computed.
        backend: For the style losses.
        kept: The networks and style targets of earlier objectives, to be used again.

    Returns:
        The objective, on the device and in the dtype of ``content``.

    Raises:
        InvalidInput: for an unknown layer, or a picture too small for the deepest layer.
    """
    content_layers = settings.content_layers if settings.content_weight else ()
    layer_weights = settings.layer_weights() if settings.style_weight else {}
    names = (*content_layers, *layer_weights)
    architecture = weights.architecture
    for label, picture in (("content", content), ("style", style)):
        check_size(label, picture, architecture.smallest_side(names))
    kept = kept or Kept()
    source = (weights.name, weights.sha256, weights.preprocessing)
    key = (source, names, settings.pooling, content.device, content.dtype)
    network = kept.get(
        "network",
        key,
        lambda: VGG(architecture, weights.tensors, names, settings.pooling).to(content),
    )
    normalize = Normalization(weights.preprocessing.mean, weights.preprocessing.std).to(content)
    with torch.no_grad():
        content_features = network(normalize(content), content_layers) if content_layers else {}

    def style_targets() -> dict[str, Tensor]:
        with torch.no_grad():
            features = network(normalize(style), layer_weights) if layer_weights else {}
        return {name: gram_matrix(features[name], backend=backend)[0] for name in layer_weights}

    return Objective(
        network,
        normalize,
        content={name: content_features[name] for name in content_layers},
        style=kept.get("style targets", (*key, backend, digest(style)), style_targets),
        content_weight=settings.content_weight,
        style_weight=settings.style_weight,
        layer_weights=layer_weights,
        tv_weight=settings.tv_weight,
        backend=backend,
    ).to(content)


def check_size(label: str, picture: Tensor, smallest: int) -> None:
    """Raise InvalidInput if a side of ``picture`` ``(1, 3, H, W)`` is below ``smallest`` pixels."""
    height, width = picture.shape[-2:]
    if min(height, width) < smallest:
        raise InvalidInput(
            f"the {label} picture is {width}×{height} pixels when scaled; the deepest layer in use "
            f"needs at least {smallest} on each side: use a larger picture or size, or fewer layers"
        )
