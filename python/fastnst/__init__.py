"""fastnst: neural style transfer by optimisation, exact and fast.

    import fastnst

    result = fastnst.stylize("photo.jpg", "painting.jpg", size=512)
    result.save("out.png")

The lower level: ``load_pictures`` (content, style and start tensors), ``load_weights`` and ``VGG``,
``ContentLoss``, ``StyleLoss`` (and ``CovarianceLoss``, ``MeanStdLoss``, ``WassersteinLoss``),
``TotalVariationLoss`` and ``Normalization``, ``build_objective`` and ``Objective``, ``engine_of``
(the fast evaluation), ``minimise`` (L-BFGS), and the operators ``gram_matrix`` and ``style_loss``.

The import is quick: a name's module, and torch with it, is imported when the name is first used.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what ``_HOME`` says, for type checkers and editors
    from fastnst._version import __version__
    from fastnst.api import reconstruct, stylize, stylize_video, texture
    from fastnst.engines.create import create_engine, engine_of
    from fastnst.errors import (
        BackendUnavailable,
        FastNSTError,
        InvalidInput,
        NonFiniteLoss,
        OutputFailed,
        RankLost,
    )
    from fastnst.evaluation import Terms
    from fastnst.images.decode import load_image
    from fastnst.images.encode import save_image
    from fastnst.inputs.pictures import Pictures
    from fastnst.losses import (
        ContentLoss,
        CovarianceLoss,
        LayerLoss,
        MeanStdLoss,
        StyleLoss,
        TemporalLoss,
        TotalVariationLoss,
        WassersteinLoss,
    )
    from fastnst.network.architecture import VGG16, VGG19
    from fastnst.network.normalization import Normalization
    from fastnst.network.vgg import VGG
    from fastnst.network.weights import Weights, load_weights
    from fastnst.objective.build import build_objective
    from fastnst.objective.objective import Objective
    from fastnst.ops import gram_matrix, style_loss, style_losses
    from fastnst.run.ending import Diverged, Interrupted, Unsaved
    from fastnst.run.losses import Losses
    from fastnst.run.prepare import load_pictures
    from fastnst.run.resources import Resources
    from fastnst.run.result import Result
    from fastnst.run.step import Step
    from fastnst.settings.keywords import SettingsDict
    from fastnst.settings.presets import PRESETS, make_settings
    from fastnst.settings.settings import Settings
    from fastnst.sheet.sheet import Sheet
    from fastnst.sheets import contact_sheet
    from fastnst.solvers.iterate import Iterate
    from fastnst.solvers.minimise import minimise
    from fastnst.video.film_frame import FilmFrame
    from fastnst.video.options import FilmOptions

_HOME = {
    name: module
    for module, names in {
        "_version": ("__version__",),  # reading the metadata takes longer than all else here
        "api": ("reconstruct", "stylize", "stylize_video", "texture"),
        "engines.create": ("create_engine", "engine_of"),
        "errors": (
            "BackendUnavailable",
            "FastNSTError",
            "InvalidInput",
            "NonFiniteLoss",
            "OutputFailed",
            "RankLost",
        ),
        "evaluation": ("Terms",),
        "images.decode": ("load_image",),
        "images.encode": ("save_image",),
        "inputs.pictures": ("Pictures",),
        "losses": (
            "ContentLoss",
            "CovarianceLoss",
            "LayerLoss",
            "MeanStdLoss",
            "StyleLoss",
            "TemporalLoss",
            "TotalVariationLoss",
            "WassersteinLoss",
        ),
        "network.normalization": ("Normalization",),
        "network.architecture": ("VGG16", "VGG19"),
        "network.vgg": ("VGG",),
        "network.weights": ("Weights", "load_weights"),
        "objective.build": ("build_objective",),
        "objective.objective": ("Objective",),
        "ops": ("gram_matrix", "style_loss", "style_losses"),
        "run.ending": ("Diverged", "Interrupted", "Unsaved"),
        "run.losses": ("Losses",),
        "run.prepare": ("load_pictures",),
        "run.resources": ("Resources",),
        "run.result": ("Result",),
        "run.step": ("Step",),
        "settings.keywords": ("SettingsDict",),
        "settings.presets": ("PRESETS", "make_settings"),
        "settings.settings": ("Settings",),
        "sheet.sheet": ("Sheet",),
        "sheets": ("contact_sheet",),
        "solvers.iterate": ("Iterate",),
        "solvers.minimise": ("minimise",),
        "video.film_frame": ("FilmFrame",),
        "video.options": ("FilmOptions",),
    }.items()
    for name in names
}

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
    "FilmFrame",
    "FilmOptions",
    "Interrupted",
    "InvalidInput",
    "Iterate",
    "LayerLoss",
    "Losses",
    "MeanStdLoss",
    "NonFiniteLoss",
    "Normalization",
    "Objective",
    "OutputFailed",
    "Pictures",
    "RankLost",
    "Resources",
    "Result",
    "Settings",
    "SettingsDict",
    "Sheet",
    "Step",
    "StyleLoss",
    "TemporalLoss",
    "Terms",
    "TotalVariationLoss",
    "Unsaved",
    "WassersteinLoss",
    "Weights",
    "__version__",
    "build_objective",
    "contact_sheet",
    "create_engine",
    "engine_of",
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
    "stylize_video",
    "texture",
]


def __getattr__(name: str) -> Any:
    """A public name, or a submodule, that is not imported yet (PEP 562)."""
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, imported or not, and what is there already."""
    return sorted({*globals(), *__all__})
