"""What a graph is built from: an objective, read into plain values.

Everything that is not known here is refused, so that no part of an objective is left out unseen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from fastnst.errors import InvalidInput
from fastnst.losses import ContentLoss, StyleLoss, TotalVariationLoss
from fastnst.network.normalization import Normalization
from fastnst.network.vgg import VGG
from fastnst.objective.objective import Objective

Array = NDArray[np.float32]

# The attributes of each module (parameters, buffers and the like) that the graph takes account of.
_KNOWN: Mapping[type[nn.Module], frozenset[str]] = {
    Objective: frozenset(
        [
            "network",
            "normalize",
            "content",
            "style",
            "tv",
            "content_weight",
            "style_weight",
            "content_layer_weights",
            "layer_weights",
            "tv_weight",
            "temporal_weight",
            "temporal",
            "gradient_norm",
            "layers",
            "needs_host",
        ]
    ),
    VGG: frozenset({"architecture", "layers", "pooling", "padding"}),
    Normalization: frozenset({"mean", "std"}),
    ContentLoss: frozenset({"target"}),
    StyleLoss: frozenset({"target_gram", "backend", "guidance", "spread"}),
    TotalVariationLoss: frozenset({"form"}),
}


@dataclass(frozen=True)
class Term:
    """A content or a style loss.

    Attributes:
        layer: The layer that it looks at.
        target: The features P_l ``(1, C, h, w)``, or the Gram matrix A_l ``(C, C)``.
        weight: v_l of a content loss, w_l of a style loss.
    """

    layer: str
    target: Array
    weight: float


@dataclass(frozen=True)
class Plan:
    """An objective in plain values.

    Attributes:
        layers: ``{name: module}``: the network's ``nn.Conv2d``, ``nn.ReLU``, ``nn.AvgPool2d`` and
            ``nn.MaxPool2d``, in order.
        mean: The mean of the normalisation, ``(1, 3, 1, 1)``.
        std: Its standard deviation, ``(1, 3, 1, 1)``.
        content: The content losses, in order.
        style: The style losses, in order.
        content_weight: α.
        style_weight: β.
        tv_weight: τ; 0 leaves the total variation out.
        tv_form: ``squared`` or ``color``.
    """

    layers: Mapping[str, nn.Module]
    mean: Array
    std: Array
    content: tuple[Term, ...]
    style: tuple[Term, ...]
    content_weight: float
    style_weight: float
    tv_weight: float
    tv_form: str = "squared"

    def depth(self) -> int:
        """How many of the layers the terms need."""
        names = list(self.layers)
        return max((names.index(t.layer) + 1 for t in (*self.content, *self.style)), default=0)


def read(objective: Objective) -> Plan:
    """Read an objective.

    Raises:
        InvalidInput: if a graph cannot hold all of it; ``unavailable_reason`` says the same without
            raising.
    """
    if reason := unavailable_reason(objective):
        raise InvalidInput(f"an ONNX graph does not hold this objective: {reason}")
    return replace(
        read_network(objective.network, objective.normalize),
        content=tuple(
            Term(layer, _array(loss.target), objective.content_layer_weights[layer])
            for layer, loss in objective.content.items()
            if isinstance(loss, ContentLoss)
        ),
        style=tuple(
            Term(layer, _array(loss.target_gram), objective.layer_weights[layer])
            for layer, loss in objective.style.items()
            if isinstance(loss, StyleLoss)
        ),
        content_weight=objective.content_weight,
        style_weight=objective.style_weight,
        tv_weight=objective.tv_weight,
        tv_form=objective.tv.form,
    )


def read_network(network: VGG, normalize: Normalization) -> Plan:
    """Read a network alone: a plan without terms.

    Raises:
        InvalidInput: if a graph cannot hold it.
    """
    if reason := _network_reason(network, normalize):
        raise InvalidInput(f"an ONNX graph does not hold this network: {reason}")
    mean, std = _array(normalize.mean[None]), _array(normalize.std[None])
    return Plan(dict(network.layers.items()), mean, std, (), (), 0.0, 0.0, 0.0)


def unavailable_reason(objective: nn.Module) -> str | None:
    """Why a graph cannot hold an objective, or None if it can."""
    if reason := _unknown(objective, Objective, "the objective"):
        return reason
    assert isinstance(objective, Objective)
    parts: list[tuple[nn.Module, type[nn.Module], str]] = [
        (objective.tv, TotalVariationLoss, "the total variation"),
        *((loss, ContentLoss, f"the content loss at {k}") for k, loss in objective.content.items()),
        *((loss, StyleLoss, f"the style loss at {k}") for k, loss in objective.style.items()),
    ]
    for part, expected, what in parts:
        if reason := _unknown(part, expected, what):
            return reason
    if reason := _network_reason(objective.network, objective.normalize):
        return reason
    if objective.gradient_norm != "none":
        return f"the gradients are normalised by {objective.gradient_norm}"
    if objective.tv_weight and objective.tv.form not in ("squared", "color"):
        return f"the total variation is of form {objective.tv.form}"
    if objective.temporal is not None:
        return "it has a temporal term, as the frames of a film have"
    for name, loss in objective.style.items():
        assert isinstance(loss, StyleLoss)
        if loss.target_gram.dim() != 2:
            return f"the style loss at {name} has a batch of targets"
        if loss.guidance is not None:
            return f"the style loss at {name} is for a region"
        if loss.spread:
            return (
                f"the style loss at {name} blends the losses of several styles, not their targets"
            )
    return None


def _network_reason(network: nn.Module, normalize: nn.Module) -> str | None:
    if reason := _unknown(network, VGG, "the network"):
        return reason
    if reason := _unknown(normalize, Normalization, "the normalisation"):
        return reason
    assert isinstance(network, VGG)
    if network.padding != "zero":
        return f"the padding is {network.padding}"
    for name, layer in network.layers.items():
        if not _plain(layer):
            return f"layer {name} is {layer}, which is not known"
    return None


def _unknown(module: nn.Module, expected: type[nn.Module], what: str) -> str | None:
    """What a graph would leave out of a module, or None if it holds all of it."""
    if type(module) is not expected:
        return f"{what} is a {type(module).__name__}, and only {expected.__name__} is known"
    found = {
        *(name for name in vars(module) if not name.startswith("_") and name != "training"),
        *(name for name, _ in module.named_buffers(recurse=False)),
        *(name for name, _ in module.named_parameters(recurse=False)),
        *(name for name, _ in module.named_children()),
    }
    if more := sorted(found - _KNOWN[expected]):
        return f"{what} has {', '.join(more)}, which is not known"
    return None


def _plain(layer: nn.Module) -> bool:
    """Whether a layer is one of those that ``layers.py`` has: VGG's own, with VGG's numbers."""
    if type(layer) is nn.Conv2d:
        expected: dict[str, Any] = {
            "kernel_size": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1),
            "groups": 1, "padding_mode": "zeros",
        }  # fmt: skip
        return layer.bias is not None and all(getattr(layer, k) == v for k, v in expected.items())
    if type(layer) in (nn.AvgPool2d, nn.MaxPool2d):
        if type(layer) is nn.MaxPool2d and layer.dilation not in (1, (1, 1)):
            return False
        pairs = (("kernel_size", 2), ("stride", 2), ("padding", 0))
        same = all(getattr(layer, k) in (v, (v, v)) for k, v in pairs)
        return same and not layer.ceil_mode
    return type(layer) is nn.ReLU


def _array(x: Tensor) -> Array:
    array: Array = x.detach().float().cpu().contiguous().numpy()
    return array
