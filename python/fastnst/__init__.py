"""fastnst: neural style transfer by optimisation, exact and fast.

    import fastnst

    result = fastnst.stylize("photo.jpg", "painting.jpg", size=512)
    result.save("out.png")

The lower level: ``load_pictures`` (content, style and start tensors), ``load_weights`` and ``VGG``,
``ContentLoss``, ``StyleLoss`` (and ``CovarianceLoss``, ``MeanStdLoss``, ``WassersteinLoss``),
``TotalVariationLoss`` and ``Normalization``, ``build_objective``
and ``Objective``, ``minimise`` (L-BFGS), and the operators ``gram_matrix`` and ``style_loss``.
"""

from fastnst._version import __version__
from fastnst.errors import (
    BackendUnavailable,
    FastNSTError,
    Interrupted,
    InvalidInput,
    NonFiniteLoss,
    OutputFailed,
)
from fastnst.images import load_image, save_image
from fastnst.lbfgs import Iterate, minimise
from fastnst.losses import (
    ContentLoss,
    CovarianceLoss,
    MeanStdLoss,
    Normalization,
    StyleLoss,
    TotalVariationLoss,
    WassersteinLoss,
)
from fastnst.network import VGG, VGG16, VGG19
from fastnst.objective import Objective, Terms, build_objective
from fastnst.ops import gram_matrix, style_loss, style_losses
from fastnst.pictures import Pictures, load_pictures
from fastnst.presets import PRESETS, make_settings
from fastnst.result import Losses, Result, Step
from fastnst.settings import Settings
from fastnst.stylize import stylize
from fastnst.synthesis import reconstruct, texture
from fastnst.weights import Weights, load_weights

__all__ = [
    "PRESETS",
    "VGG",
    "VGG16",
    "VGG19",
    "BackendUnavailable",
    "ContentLoss",
    "CovarianceLoss",
    "FastNSTError",
    "Interrupted",
    "InvalidInput",
    "Iterate",
    "Losses",
    "MeanStdLoss",
    "NonFiniteLoss",
    "Normalization",
    "Objective",
    "OutputFailed",
    "Pictures",
    "Result",
    "Settings",
    "Step",
    "StyleLoss",
    "Terms",
    "TotalVariationLoss",
    "WassersteinLoss",
    "Weights",
    "__version__",
    "build_objective",
    "gram_matrix",
    "load_image",
    "load_pictures",
    "load_weights",
    "make_settings",
    "minimise",
    "reconstruct",
    "save_image",
    "style_loss",
    "style_losses",
    "stylize",
    "texture",
]
