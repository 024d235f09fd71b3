"""The losses and their gradients with respect to the features, as ONNX operators.

    c = mean (F − P)²        dc/dF = 2 (F − P) / (C·H·W)
    g = mean (G − A)²        dg/dF = 4 (G − A) F / (C²·H·W),   G = F Fᵀ / (H·W)
    tv                       dtv/dx = −2 × the difference of the differences, along each side

Losses are scalars, unweighted; each gradient is multiplied by its weight, a scalar of the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastnst.losses.total_variation import COLOUR_DIFFERENCES
from fastnst.onnx_graph.graph import Graph
from fastnst.onnx_graph.layers import Value


@dataclass(frozen=True)
class Loss:
    """A loss of the graph and what its gradient needs.

    Attributes:
        name: Of the scalar.
        difference: F − P, or G − A.
        weight: Of the term in the total: a scalar's name.
    """

    name: str
    difference: str
    weight: str


def content_loss(graph: Graph, features: Value, target: str, weight: str, name: str) -> Loss:
    """c, from F and P ``(1, C, H, W)``."""
    difference = graph.op("Sub", features.name, target, name=f"{name}.difference")
    _mean_square(graph, difference, name)
    return Loss(name, difference, weight)


def content_backward(graph: Graph, features: Value, loss: Loss, gradient: str | None) -> str:
    """``gradient`` plus that of a content loss, at its features."""
    path = f"backward/{loss.name}"
    doubled = graph.op("Mul", graph.constant("constants/2", 2.0), loss.weight, name=f"{path}.twice")
    scale = graph.op("Div", doubled, elements(graph, features), name=f"{path}.scale")
    mine = graph.op("Mul", loss.difference, scale, name=path)
    return mine if gradient is None else graph.op("Add", gradient, mine, name=f"{path}.sum")


def gram_matrix(graph: Graph, features: Value) -> str:
    """G = F Fᵀ / (H·W), ``(C, C)``; one for each layer, however many losses look at it."""
    name = f"gram.{features.name}"
    if graph.has(name):
        return name
    matrix = _matrix(graph, features)
    product = graph.op("Gemm", matrix, matrix, name=f"{name}.product", transB=1)
    return graph.op("Div", product, _positions(graph, features), name=name)


def style_loss(graph: Graph, features: Value, target: str, weight: str, name: str) -> Loss:
    """g, from F ``(1, C, H, W)`` and A ``(C, C)``."""
    difference = graph.op("Sub", gram_matrix(graph, features), target, name=f"{name}.difference")
    _mean_square(graph, difference, name)
    return Loss(name, difference, weight)


def style_backward(graph: Graph, features: Value, loss: Loss, gradient: str | None) -> str:
    """``gradient`` plus that of a style loss, at its features: one matrix product."""
    path = f"backward/{loss.name}"
    factor = graph.constant(f"constants/4:{features.channels**2}", 4.0 / features.channels**2)
    weight = graph.op("Mul", factor, loss.weight, name=f"{path}.factor")
    scale = graph.op("Div", weight, _positions(graph, features), name=f"{path}.scale")
    product = [graph.op("Mul", loss.difference, scale, name=f"{path}.difference")]
    product.append(_matrix(graph, features))
    if gradient is not None:
        product.append(graph.op("Reshape", gradient, _rows(graph, features), name=f"{path}.before"))
    matrix = graph.op("Gemm", *product, name=f"{path}.matrix")
    return graph.op("Reshape", matrix, _shape(graph, features), name=path)


def total_variation(
    graph: Graph, image: Value, weight: str, form: str = "squared"
) -> tuple[str, str]:
    """tv of a picture and its gradient times the weight: two names.

    Of the form ``color`` it is the squared one of the colour differences M x, its gradient Mᵀ times
    that one's.
    """
    if form == "color":
        matrix = np.array(COLOUR_DIFFERENCES)
        by = graph.constant("tv.colours.matrix", matrix[:, :, None, None])
        colours = graph.op("Conv", image.name, by, name="tv.colours")
        tv, slope = total_variation(graph, Value(colours, len(matrix), image.size), weight)
        back = graph.constant("tv.colours.transposed", matrix.T[:, :, None, None])
        return tv, graph.op("Conv", slope, back, name="backward/tv.colours")
    sides = [("rows", 2), ("columns", 3)]
    if image.size is not None:  # a side of one pixel has no neighbours
        sides = [side for side in sides if image.size[side[1] - 2] > 1]
    losses, gradients = [], []
    for side, axis in sides:
        name = f"tv.{side}"
        axes = graph.constant(f"{name}.axis", [axis])

        def cut(start: int, end: int, label: str, axes: str = axes) -> str:
            bounds = [graph.constant(f"constants/[{i}]", [i]) for i in (start, end)]
            return graph.op("Slice", image.name, *bounds, axes, name=label)

        end = 2**31 - 1
        difference = graph.op(
            "Sub", cut(1, end, f"{name}.after"), cut(0, -1, f"{name}.before"), name=f"{name}.diff"
        )
        count = elements(graph, Value(difference, image.channels, _less(image.size, axis)))
        losses.append(_mean_square(graph, difference, name))
        doubled = graph.op(
            "Mul", graph.constant("constants/2", 2.0), weight, name=f"backward/{name}.twice"
        )
        scale = graph.op("Div", doubled, count, name=f"backward/{name}.factor")
        scaled = graph.op("Mul", difference, scale, name=f"backward/{name}.scaled")
        first, last = [0] * 8, [0] * 8
        first[axis], last[axis + 4] = 1, 1
        received = graph.op(
            "Pad", scaled, graph.constant(f"{name}.first", first), name=f"backward/{name}.after"
        )
        given = graph.op(
            "Pad", scaled, graph.constant(f"{name}.last", last), name=f"backward/{name}.before"
        )
        gradients.append(graph.op("Sub", received, given, name=f"backward/{name}"))
    zero = graph.constant("constants/zero", 0.0)
    return (
        graph.op("Sum", zero, *losses, name="tv"),
        graph.op("Sum", zero, *gradients, name="backward/tv"),
    )


def _mean_square(graph: Graph, difference: str, name: str) -> str:
    """The mean over all elements of a difference squared: a scalar.

    In two steps, rows first: ONNX Runtime adds up in sequence, and a sum over 512² Gram elements in
    one go lost two of float32's seven digits.
    """
    square = graph.op("Mul", difference, difference, name=f"{name}.square")
    rows = graph.op("ReduceMean", square, name=f"{name}.rows", axes=[-1], keepdims=0)
    return graph.op("ReduceMean", rows, name=name, keepdims=0)


def _less(size: tuple[int, int] | None, axis: int) -> tuple[int, int] | None:
    """A size with one pixel less along an axis."""
    return size and (size[0] - (axis == 2), size[1] - (axis == 3))


def elements(graph: Graph, x: Value) -> str:
    """C·H·W as a scalar."""
    if x.size is not None:
        count = x.channels * x.size[0] * x.size[1]
        return graph.constant(f"constants/{count}", float(count))
    if not graph.has(f"{x.name}.elements"):
        size = graph.op("Size", x.name, name=f"{x.name}.count")
        graph.op("Cast", size, name=f"{x.name}.elements", to=1)
    return f"{x.name}.elements"


def _positions(graph: Graph, x: Value) -> str:
    """H·W as a scalar."""
    if x.size is not None:
        count = x.size[0] * x.size[1]
        return graph.constant(f"constants/{count}", float(count))
    if not graph.has(f"{x.name}.positions"):
        channels = graph.constant(f"constants/{x.channels}", float(x.channels))
        graph.op("Div", elements(graph, x), channels, name=f"{x.name}.positions")
    return f"{x.name}.positions"


def _matrix(graph: Graph, x: Value) -> str:
    """``(1, C, H, W)`` as ``(C, H·W)``."""
    if not graph.has(f"{x.name}.matrix"):
        graph.op("Reshape", x.name, _rows(graph, x), name=f"{x.name}.matrix")
    return f"{x.name}.matrix"


def _rows(graph: Graph, x: Value) -> str:
    return graph.constant(f"constants/({x.channels}, -1)", [x.channels, -1])


def _shape(graph: Graph, x: Value) -> str:
    """The shape of a value."""
    if x.size is not None:
        return graph.constant(f"constants/{(1, x.channels, *x.size)}", [1, x.channels, *x.size])
    if not graph.has(f"{x.name}.shape"):
        graph.op("Shape", x.name, name=f"{x.name}.shape")
    return f"{x.name}.shape"
