"""From pictures and settings to a model: what ``fastnst export`` writes."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import onnx

from fastnst.engines.create import TARGETS_AT_A_TIME
from fastnst.errors import InvalidInput
from fastnst.images.decode import Picture, load_image
from fastnst.inputs.pictures import Styles
from fastnst.network.normalization import Normalization
from fastnst.network.vgg import VGG
from fastnst.network.weights import Weights, load_weights
from fastnst.objective.build import build_objective
from fastnst.onnx_graph.model import Size, features_model, loss_model, targets_model
from fastnst.onnx_graph.objective import read, read_network
from fastnst.run.preparation import Preparation
from fastnst.run.prepare import prepare
from fastnst.settings.settings import Settings

KINDS = ("loss", "features", "targets")


def build(
    settings: Settings,
    content: Picture | None = None,
    style: Styles | None = None,
    *,
    kind: str = "loss",
    dynamic: bool = False,
    inputs: Collection[str] = (),
) -> onnx.ModelProto:
    """Make an ONNX model (opset 17, standard operators, checked).

    Args:
        settings: Size, network, pooling, layers and weights are read from here.
        content: Gives the size and the targets of the content losses. ``features`` and ``targets``
            do without: they are then for pictures of any size.
        style: Gives the targets of the style losses; only ``loss`` needs it. Several are
            blended as the settings say.
        kind: ``loss`` (loss, terms and gradient), ``features`` (of the content and style layers) or
            ``targets`` (Gram matrices of the style layers).
        dynamic: For pictures of any size.
        inputs: Of a loss: ``targets``, ``weights`` or both; see ``loss_model``.

    Raises:
        InvalidInput: for a picture that cannot be used, or settings that a graph does not hold.
    """
    if kind not in KINDS:
        raise InvalidInput(f"kind is {kind!r}: choose one of {', '.join(KINDS)}")
    if kind != "loss" and inputs:
        raise InvalidInput(f"inputs are for a loss, not for {kind}")
    if kind == "loss":
        if content is None or style is None or (isinstance(style, (list, tuple)) and not style):
            raise InvalidInput("a loss needs a content and a style picture: --content C --style S")
        return _loss(prepare(content, style, settings), dynamic, inputs)
    every = (*settings.content_layers, *settings.style_layers)
    names = tuple(dict.fromkeys(every if kind == "features" else settings.style_layers))
    if not names:
        raise InvalidInput(f"there are no layers to export the {kind} of")
    size: Size = None
    if content is not None and not dynamic:
        picture = load_image(content)  # once: a pipe is empty afterwards
        alone = replace(settings, style_blend=None, style_scale=(1.0,))
        prepared = prepare(picture, picture, alone)
        size, weights = (prepared.height, prepared.width), prepared.weights
    else:
        weights = load_weights(settings.weights, settings.preprocessing)
    if size is not None and min(size) < weights.architecture.smallest_side(names):
        raise InvalidInput(
            f"a picture of {size[1]}×{size[0]} is too small for these layers: its short side must "
            f"have {weights.architecture.smallest_side(names)} pixels"
        )
    network = VGG(weights.architecture, weights.tensors, names, settings.pooling, settings.padding)
    normalize = Normalization(weights.preprocessing.mean, weights.preprocessing.std)
    make = features_model if kind == "features" else targets_model
    ordered = sorted(names, key=weights.architecture.layers().index)
    plan = read_network(network, normalize)
    return make(plan, size, ordered, _metadata(settings, weights, size))


def _loss(prepared: Preparation, dynamic: bool, inputs: Collection[str]) -> onnx.ModelProto:
    """The loss of a run at its largest scale."""
    pictures = prepared.pictures(prepared.schedule[-1])
    settings, weights = prepared.settings, prepared.weights
    objective = build_objective(
        *(weights, pictures.content, pictures.styles, settings), pixels=TARGETS_AT_A_TIME
    )
    size = None if dynamic else (prepared.height, prepared.width)
    metadata = _metadata(settings, weights, size)
    return loss_model(read(objective), size, inputs=inputs, metadata=metadata)


def describe(model: onnx.ModelProto) -> dict[str, Any]:
    """What is in a model, as plain values: its kind, its inputs and its outputs."""
    kind = next(entry.value for entry in model.metadata_props if entry.key == "fastnst.kind")
    given = {tensor.name for tensor in model.graph.initializer}
    return {
        "kind": kind,
        "opset": model.opset_import[0].version,
        "inputs": [
            {"name": value.name, "shape": _shape(value), "optional": value.name in given}
            for value in model.graph.input
        ],
        "outputs": [{"name": value.name, "shape": _shape(value)} for value in model.graph.output],
    }


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    dimensions = value.type.tensor_type.shape.dim
    return [d.dim_param or d.dim_value for d in dimensions]


def _metadata(settings: Settings, weights: Weights, size: Size) -> dict[str, str]:
    """The entries that every model carries, as docs/onnx.md lists them."""
    return {
        "fastnst.size": f"{size[1]}x{size[0]}" if size else "any",
        "fastnst.network": weights.architecture.name,
        "fastnst.weights": weights.name,
        "fastnst.weights.sha256": weights.sha256,
        "fastnst.settings": json.dumps(settings.to_dict()),
    }
