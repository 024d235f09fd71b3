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
from fastnst.api import reconstruct, stylize, texture
from fastnst.errors import (
    BackendUnavailable,
    FastNSTError,
    InvalidInput,
    NonFiniteLoss,
    OutputFailed,
)
from fastnst.evaluation import Terms
from fastnst.images.decode import load_image
from fastnst.images.encode import save_image
from fastnst.inputs.pictures import Pictures
from fastnst.losses import (
    ContentLoss,
    CovarianceLoss,
    MeanStdLoss,
    StyleLoss,
    TotalVariationLoss,
    WassersteinLoss,
)
from fastnst.network.normalization import Normalization
from fastnst.network.vgg import VGG, VGG16, VGG19
from fastnst.network.weights import Weights, load_weights
from fastnst.objective.build import build_objective
from fastnst.objective.objective import Objective
from fastnst.ops import gram_matrix, style_loss, style_losses
from fastnst.run.prepare import load_pictures
from fastnst.run.result import Diverged, Interrupted, Losses, Result, Step
from fastnst.settings.presets import PRESETS, make_settings
from fastnst.settings.settings import Settings
from fastnst.solvers.iterate import Iterate
from fastnst.solvers.minimise import minimise

__all__ = [
    "PRESETS",
    "VGG",
    "VGG16",
    "VGG19",
    "BackendUnavailable",
    "ContentLoss",
    "CovarianceLoss",
    "Diverged",
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
