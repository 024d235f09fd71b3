"""The objective, and its gradient, as ONNX graphs.

``loss_model``      image → loss, terms, gradient
``features_model``  image → features of VGG's layers
``targets_model``   image → Gram matrices of VGG's layers

The package ``onnx`` builds them; ``engines/onnx`` and any other runtime run them.
"""

from fastnst.onnx_graph.model import SWITCHES, features_model, loss_model, targets_model
from fastnst.onnx_graph.objective import Plan, Term, read, unavailable_reason

__all__ = [
    "SWITCHES",
    "Plan",
    "Term",
    "features_model",
    "loss_model",
    "read",
    "targets_model",
    "unavailable_reason",
]
