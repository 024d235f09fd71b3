"""The objective in normal form (Gatys et al. 2015, equation 7):

    L(x) = α · Σ_l v_l · c_l + β · Σ_l w_l · g_l + τ · tv(x) + γ · t(x)

with the content losses c_l, style losses g_l, total variation tv and, in a film, temporal term t of
``losses/``. Every term is a mean, so the weights α, β, v_l, w_l, τ, γ keep their meaning when the
size of the picture changes.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from fastnst.evaluation import Terms
from fastnst.losses import LayerLoss, TemporalLoss, TotalVariationLoss, scale_gradient
from fastnst.network.normalization import Normalization
from fastnst.network.vgg import VGG


class Objective(nn.Module):
    """L(x) as a module: everything fixed before the optimisation, waiting for a picture.

    Args:
        network: VGG, deep enough for every layer below.
        normalize: From the picture to the network's input.
        content: The content losses, ``{layer: loss}``.
        style: The style losses, ``{layer: loss}``.
        content_weight: α.
        style_weight: β.
        content_layer_weights: ``{layer: v_l}``, one for each layer of ``content``.
        layer_weights: ``{layer: w_l}``, one for each layer of ``style``.
        tv_weight: τ.
        tv: The total variation, from a picture to a 0-dimensional loss.
        gradient_norm: ``"none"``, or ``"l1"`` or ``"l2"``: see ``losses/gradients.py``.
        temporal_weight: γ.
        temporal: The temporal term, from a picture to a 0-dimensional loss; None: there is none.

    Attributes:
        layers: Every layer that has a loss.
    """

    def __init__(
        self,
        network: VGG,
        normalize: Normalization,
        content: Mapping[str, LayerLoss],
        style: Mapping[str, LayerLoss],
        *,
        content_weight: float,
        style_weight: float,
        content_layer_weights: Mapping[str, float],
        layer_weights: Mapping[str, float],
        tv_weight: float = 0.0,
        tv: TotalVariationLoss | None = None,
        gradient_norm: str = "none",
        temporal_weight: float = 0.0,
        temporal: TemporalLoss | None = None,
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
        self.temporal_weight = temporal_weight
        self.temporal = temporal
        self.layers = tuple({*content, *style})

    @property
    def needs_host(self) -> bool:
        """Whether a loss fetches numbers to the host; see ``LayerLoss``."""
        return any(loss.needs_host for loss in (*self.content.values(), *self.style.values()))

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
        tv = self.tv(image) if self.tv_weight else image.new_zeros(())
        temporal = None if self.temporal is None else self.temporal(image)
        return self.terms(content, style, tv, temporal)

    def terms(
        self,
        content: Mapping[str, Tensor],
        style: Mapping[str, Tensor],
        tv: Tensor,
        temporal: Tensor | None = None,
    ) -> Terms:
        """The losses (0-dimensional) with their weighted sum."""
        total = self.tv_weight * tv
        for name, loss in content.items():
            total = total + self.content_factor(name) * loss
        for name, loss in style.items():
            total = total + self.style_factor(name) * loss
        if temporal is not None:
            total = total + self.temporal_weight * temporal
        return Terms(total, content, style, tv, temporal=temporal)

    def _term(self, loss: nn.Module, features: Tensor, weight: float) -> Tensor:
        """One loss; its gradient is normalised where that is asked for."""
        if self.gradient_norm != "none" and features.requires_grad:
            features = scale_gradient(features, weight, self.gradient_norm)
        value: Tensor = loss(features)
        return value
