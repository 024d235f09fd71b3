"""The losses as small modules, for fastnst's engines and for anyone's PyTorch code.

    content = ContentLoss(target_features)          # mean (F − P)²
    style = StyleLoss(gram_matrix(style_features))  # mean (G − A)²
    total_variation = TotalVariationLoss()
    temporal = TemporalLoss(warped_frame, reliability)
    normalize = Normalization(mean, std)

Every loss is a mean, so a weight keeps its meaning when the size of the picture changes (but for
the total variations that say ``sum``).

``STYLE_LOSSES`` are the losses of the style: each has ``statistics(features)``, which makes its
targets, and takes such targets when it is built.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from fastnst.losses.content import ContentLoss
from fastnst.losses.gradients import scale_gradient
from fastnst.losses.gram import StyleLoss
from fastnst.losses.layer_loss import LayerLoss
from fastnst.losses.moments import CovarianceLoss, MeanStdLoss, WassersteinLoss
from fastnst.losses.temporal import TemporalLoss
from fastnst.losses.total_variation import TotalVariationLoss
from fastnst.losses.weighted import WeightedLoss
from fastnst.network.normalization import Normalization
from fastnst.ops import gram_matrix

__all__ = [
    "STYLE_LOSSES",
    "ContentLoss",
    "CovarianceLoss",
    "LayerLoss",
    "MeanStdLoss",
    "Normalization",
    "StyleLoss",
    "StyleLossType",
    "TemporalLoss",
    "TotalVariationLoss",
    "WassersteinLoss",
    "WeightedLoss",
    "gram_matrix",
    "scale_gradient",
]

StyleLossType: TypeAlias = "type[StyleLoss | CovarianceLoss | MeanStdLoss | WassersteinLoss]"
STYLE_LOSSES: Mapping[str, StyleLossType] = MappingProxyType(
    {
        "gram": StyleLoss,
        "covariance": CovarianceLoss,
        "mean-std": MeanStdLoss,
        "wasserstein": WassersteinLoss,
    }
)
