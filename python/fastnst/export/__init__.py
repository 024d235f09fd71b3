"""The objective, and its gradient, as ONNX graphs.

``loss_model``      image → loss, terms, gradient
``features_model``  image → features of VGG's layers
``targets_model``   image → Gram matrices of VGG's layers

The package ``onnx`` builds them; ``engines/onnx_engine.py`` and any other runtime run them.
"""

from fastnst.export.build import KINDS, build, describe
from fastnst.export.model import SWITCHES, features_model, loss_model, targets_model
from fastnst.export.plan import Plan, Term, read, why_not

__all__ = [
    "KINDS",
    "SWITCHES",
    "Plan",
    "Term",
    "build",
    "describe",
    "features_model",
    "loss_model",
    "read",
    "targets_model",
    "why_not",
]
