"""The three models: loss with gradient, features, Gram matrices.

Every model takes ``image``, ``(1, 3, H, W)`` float32, RGB in [0, 1], and carries what a reader
needs to know in its metadata (docs/onnx.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import onnx
from torch import nn

from fastnst.errors import InvalidInput
from fastnst.onnx_graph import layers, terms
from fastnst.onnx_graph.graph import Graph, Shape
from fastnst.onnx_graph.layers import Value
from fastnst.onnx_graph.objective import Plan, Term

SWITCHES = ("targets", "weights")
Size = tuple[int, int] | None


def loss_model(
    plan: Plan,
    size: Size,
    *,
    inputs: Collection[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """image → ``loss``, its terms ``content.LAYER``, ``style.LAYER`` and ``tv``, and ``gradient``.

    Args:
        plan: What ``read`` returns.
        size: ``(H, W)`` of the pictures, or None for any. Without a size, the targets of the
            content losses, which have the picture's size, are inputs that must be given.
        inputs: ``"targets"`` makes ``target.content.LAYER`` and ``target.style.LAYER`` inputs,
            ``"weights"`` makes ``weight.content`` (α), ``weight.style`` (β), ``weight.tv`` (τ),
            ``weight.content.LAYER`` and ``weight.style.LAYER`` (w_l) inputs. Left out when the
            model is run, they have the plan's values.
        metadata: Goes into the file.

    Raises:
        InvalidInput: for an unknown name in ``inputs``, or targets of another size.
    """
    if unknown := sorted(set(inputs) - set(SWITCHES)):
        raise InvalidInput(f"inputs names {unknown[0]!r}: choose of {', '.join(SWITCHES)}")
    doc = "L(x) = α Σ c_l + β Σ w_l g_l + τ tv(x) of Gatys, Ecker and Bethge, and dL/dx."
    graph = Graph("fastnst_loss", doc)
    image, values = _network(graph, plan, size, list(plan.layers)[: plan.depth()])
    builder = _Losses(graph, plan, values, frozenset(inputs))
    losses = builder.add()
    gradient = _backward(graph, plan, image, values, losses)
    if gradient is not None:
        std = graph.constant("std", plan.std)
        gradient = graph.op("Div", gradient, std, name="backward/normalized")
    if plan.tv_weight:
        weight = builder.scalar("weight.tv", plan.tv_weight, "τ")
        tv, slope = terms.total_variation(graph, image, weight, plan.tv_form)
        builder.weighted.append(graph.op("Mul", tv, weight, name="tv.weighted"))
        gradient = slope if gradient is None else graph.op("Add", gradient, slope, name="dL/dx")
    assert gradient is not None  # settings with nothing to optimise are refused
    graph.output(graph.op("Sum", *builder.weighted, name="loss"), "loss", [], "L(x)")
    for loss in (*losses["content"], *losses["style"]):
        graph.output(loss.name, loss.name, [], "unweighted")
    if plan.tv_weight:
        graph.output("tv", "tv", [], "unweighted")
    graph.output(gradient, "gradient", _image_shape(size), "dL/dx")
    return graph.model({"fastnst.kind": "loss", **(metadata or {})})


def features_model(
    plan: Plan, size: Size, names: Sequence[str], metadata: Mapping[str, str] | None = None
) -> onnx.ModelProto:
    """image → the features ``(1, C, h, w)`` of the layers ``names``, one output each."""
    graph = Graph("fastnst_features", "The features of VGG's layers.")
    _, values = _network(graph, plan, size, _needed(plan, names))
    for name in names:
        graph.output(name, name, _feature_shape(values[name]), "features")
    return graph.model({"fastnst.kind": "features", **(metadata or {})})


def targets_model(
    plan: Plan, size: Size, names: Sequence[str], metadata: Mapping[str, str] | None = None
) -> onnx.ModelProto:
    """image → ``target.style.LAYER``, the Gram matrices ``(C, C)`` of the layers ``names``.

    The outputs have the names of the inputs of a loss model with ``inputs=("targets",)``.
    """
    graph = Graph("fastnst_targets", "Gram matrices F Fᵀ / (H·W) of VGG's layers.")
    _, values = _network(graph, plan, size, _needed(plan, names))
    for name in names:
        channels = values[name].channels
        gram = terms.gram_matrix(graph, values[name])
        graph.output(gram, f"target.style.{name}", [channels, channels], "Gram matrix")
    return graph.model({"fastnst.kind": "targets", **(metadata or {})})


def _network(
    graph: Graph, plan: Plan, size: Size, names: Iterable[str]
) -> tuple[Value, dict[str, Value]]:
    """The picture, and the output of each layer."""
    doc = "RGB in [0, 1]; the loss is defined beyond that too"
    image = Value(graph.input("image", _image_shape(size), doc), 3, size)
    values: dict[str, Value] = {}
    names = list(names)
    if names:
        centred = graph.op("Sub", "image", graph.constant("mean", plan.mean), name="centred")
        std = graph.constant("std", plan.std)
        x = Value(graph.op("Div", centred, std, name="normalized"), 3, size)
        for name in names:
            x = values[name] = layers.forward(graph, name, plan.layers[name], x)
    return image, values


def _backward(
    graph: Graph,
    plan: Plan,
    image: Value,
    values: Mapping[str, Value],
    losses: Mapping[str, Sequence[terms.Loss]],
) -> str | None:
    """The gradient at the normalised picture: from the deepest layer to the first."""
    names = list(values)
    gradient: str | None = None  # None: zero
    for index, name in reversed(list(enumerate(names))):
        for term, loss in zip(plan.style, losses["style"], strict=True):
            if term.layer == name:
                gradient = terms.style_backward(graph, values[name], loss, gradient)
        for term, loss in zip(plan.content, losses["content"], strict=True):
            if term.layer == name:
                gradient = terms.content_backward(graph, values[name], loss, gradient)
        assert gradient is not None  # the deepest layer has a loss
        below = values[names[index - 1]] if index else image
        layer: nn.Module = plan.layers[name]
        gradient = layers.backward(graph, name, layer, below, gradient)
    return gradient


class _Losses:
    """Adds the losses of a plan to a graph; collects their weighted values."""

    def __init__(
        self, graph: Graph, plan: Plan, values: Mapping[str, Value], inputs: frozenset[str]
    ) -> None:
        self.graph = graph
        self.plan = plan
        self.values = values
        self.inputs = inputs
        self.weighted: list[str] = []

    def add(self) -> dict[str, list[terms.Loss]]:
        plan = self.plan
        found: dict[str, list[terms.Loss]] = {"content": [], "style": []}
        for kind, losses, weight, symbol, make in (
            ("content", plan.content, plan.content_weight, "α", terms.content_loss),
            ("style", plan.style, plan.style_weight, "β", terms.style_loss),
        ):
            for index, term in enumerate(losses):
                name = f"{kind}.{term.layer}"
                if self.graph.has(name):  # a second loss at one layer
                    name = f"{name}.{1 + sum(t.layer == term.layer for t in losses[:index])}"
                total = self.scalar(f"weight.{kind}", weight, symbol)
                own = self.scalar(f"weight.{name}", term.weight, "of this term")
                factor = self.graph.op("Mul", total, own, name=f"{name}.weight")
                target = self._target(kind, name, term)
                loss = make(self.graph, self.values[term.layer], target, factor, name)
                self.weighted.append(
                    self.graph.op("Mul", loss.name, factor, name=f"{name}.weighted")
                )
                found[kind].append(loss)
        return found

    def scalar(self, name: str, value: float, doc: str) -> str:
        """A weight: a constant, or an input."""
        if "weights" in self.inputs:
            return self.graph.input(name, [], doc, default=float(value))
        return self.graph.constant(name, float(value))

    def _target(self, kind: str, name: str, term: Term) -> str:
        features = self.values[term.layer]
        name = f"target.{name}"
        if kind == "style":
            if "targets" not in self.inputs:
                return self.graph.constant(name, term.target)
            return self.graph.input(name, term.target.shape, "Gram matrix", term.target)
        shape = _feature_shape(features)
        if features.size is None:
            return self.graph.input(name, shape, "features of the content picture")
        if list(term.target.shape) != shape:
            raise InvalidInput(
                f"the target at {term.layer} has shape {term.target.shape}, and pictures of this "
                f"size have features of {tuple(shape)}"
            )
        if "targets" not in self.inputs:
            return self.graph.constant(name, term.target)
        return self.graph.input(name, shape, "features of the content picture", term.target)


def _needed(plan: Plan, names: Sequence[str]) -> list[str]:
    """The layers from the first to the deepest of ``names``."""
    every = list(plan.layers)
    return every[: max(every.index(name) for name in names) + 1]


def _image_shape(size: Size) -> Shape:
    return [1, 3, *(size or ("height", "width"))]


def _feature_shape(features: Value) -> Shape:
    size = features.size or (f"height_{features.name}", f"width_{features.name}")
    return [1, features.channels, *size]
