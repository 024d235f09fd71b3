"""The layers of VGG, forward and backward, as ONNX operators.

The gradient of a 3×3 convolution with stride 1 and padding 1 is another one, with its filters
turned by 180° and their input and output channels exchanged. A file holds each filter once, and
runtimes turn it when they load the file (constant folding).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fastnst.onnx_graph.graph import Graph


@dataclass(frozen=True)
class Value:
    """A tensor ``(1, C, H, W)`` of the graph.

    Attributes:
        name: In the graph.
        channels: C.
        size: ``(H, W)``, or None where it is known only when the graph runs.
    """

    name: str
    channels: int
    size: tuple[int, int] | None


def forward(graph: Graph, name: str, layer: nn.Module, x: Value) -> Value:
    """The layer's output, a node with the layer's name."""
    if isinstance(layer, nn.Conv2d):
        assert layer.bias is not None
        weight = graph.constant(f"{name}.weight", layer.weight.detach().cpu().numpy())
        bias = graph.constant(f"{name}.bias", layer.bias.detach().cpu().numpy())
        graph.op("Conv", x.name, weight, bias, name=name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        return Value(name, layer.out_channels, x.size)
    if isinstance(layer, nn.ReLU):
        return Value(graph.op("Relu", x.name, name=name), x.channels, x.size)
    kind = "MaxPool" if isinstance(layer, nn.MaxPool2d) else "AveragePool"
    graph.op(kind, x.name, name=name, kernel_shape=[2, 2], strides=[2, 2])
    return Value(name, x.channels, x.size and (x.size[0] // 2, x.size[1] // 2))


def backward(graph: Graph, name: str, layer: nn.Module, x: Value, gradient: str) -> str:
    """The gradient at the layer's input ``x``, from that at its output."""
    if isinstance(layer, nn.Conv2d):
        return _convolution_backward(graph, name, gradient)
    if isinstance(layer, nn.ReLU):
        return graph.op("Mul", gradient, _positive(graph, name), name=f"backward/{name}")
    if isinstance(layer, nn.MaxPool2d):
        blown_up = _max_backward(graph, name, x, gradient)
    else:
        blown_up = _average_backward(graph, name, gradient)
    return _pad(graph, name, blown_up, x)


def _convolution_backward(graph: Graph, name: str, gradient: str) -> str:
    path = f"backward/{name}"
    exchanged = graph.op(
        "Transpose", f"{name}.weight", name=f"{path}.weight.exchanged", perm=[1, 0, 2, 3]
    )
    turned = graph.op(
        "Slice",
        exchanged,
        graph.constant("constants/last", [-1, -1]),
        graph.constant("constants/before_first", [-4, -4]),
        graph.constant("constants/height_width", [2, 3]),
        graph.constant("constants/backwards", [-1, -1]),
        name=f"{path}.weight",
    )
    return graph.op("Conv", gradient, turned, name=path, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


def _positive(graph: Graph, value: str) -> str:
    """1 where a value is positive, else 0: the derivative of ReLU, from its output.

    A product with this was faster than ``Where`` in ONNX Runtime on a CPU, and as fast elsewhere.
    """
    condition = graph.op(
        "Greater", value, graph.constant("constants/zero", 0.0), name=f"backward/{value}.positive"
    )
    return graph.op("Cast", condition, name=f"backward/{value}.mask", to=1)  # 1: float32


def _average_backward(graph: Graph, name: str, gradient: str) -> str:
    """A quarter of the gradient to each of the four pixels."""
    path = f"backward/{name}"
    quarter = graph.op(
        "Mul", gradient, graph.constant("constants/quarter", 0.25), name=f"{path}.quarter"
    )
    return graph.op(
        "Resize",
        quarter,
        "",
        graph.constant("constants/twice", [1.0, 1.0, 2.0, 2.0]),
        name=f"{path}.four",
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _max_backward(graph: Graph, name: str, x: Value, gradient: str) -> str:
    """The gradient to the largest of the four pixels; of equal ones the first, as PyTorch has it.

    A knock-out: the lower row wins only where its larger pixel is above that of the upper row, and
    the right pixel of a row only where it is above the left one.
    """
    path = f"backward/{name}"
    pixels = graph.op("SpaceToDepth", _crop(graph, name, x), name=f"{path}.pixels", blocksize=2)
    corners = [f"{path}.{corner}" for corner in ("upper_left", "upper_right", "left", "right")]
    graph.split(pixels, corners, name=f"{path}.corners", axis=1)
    upper_left, upper_right, left, right = corners

    def share(loser: str, winner: str, of: str, to: str) -> tuple[str, str]:
        """``of``, where ``winner`` is above ``loser``; and what is left of it."""
        above = graph.op("Greater", winner, loser, name=f"{to}.above")
        mask = graph.op("Cast", above, name=f"{to}.mask", to=1)
        won = graph.op("Mul", of, mask, name=f"{to}.gradient")
        return won, graph.op("Sub", of, won, name=f"{to}.rest")

    upper = graph.op("Max", upper_left, upper_right, name=f"{path}.upper")
    lower = graph.op("Max", left, right, name=f"{path}.lower")
    to_lower, to_upper = share(upper, lower, gradient, lower)
    to_upper_right, to_upper_left = share(upper_left, upper_right, to_upper, upper_right)
    to_right, to_left = share(left, right, to_lower, right)
    four = graph.op(
        "Concat", to_upper_left, to_upper_right, to_left, to_right, name=f"{path}.shares", axis=1
    )
    return graph.op("DepthToSpace", four, name=f"{path}.four", blocksize=2)


def _crop(graph: Graph, name: str, x: Value) -> str:
    """``x`` without the last row or column that the pooling leaves out (H or W is odd)."""
    if x.size is not None and not (x.size[0] % 2 or x.size[1] % 2):
        return x.name
    if x.size is not None:
        end = graph.constant(f"backward/{name}.end", [x.size[0] // 2 * 2, x.size[1] // 2 * 2])
    else:
        end = _covered(graph, name)
    start = graph.constant("constants/origin", [0, 0])
    axes = graph.constant("constants/height_width", [2, 3])
    return graph.op("Slice", x.name, start, end, axes, name=f"backward/{name}.cropped")


def _pad(graph: Graph, name: str, gradient: str, x: Value) -> str:
    """Zeros in the last row or column that the pooling leaves out."""
    path = f"backward/{name}"
    if x.size is not None:
        odd = [x.size[0] % 2, x.size[1] % 2]
        if not any(odd):
            return gradient
        pads = graph.constant(f"{path}.pads", [0, 0, 0, 0, 0, 0, *odd])
    else:
        size = graph.op("Shape", x.name, name=f"{path}.size", start=2, end=4)
        missing = graph.op("Sub", size, _covered(graph, name), name=f"{path}.odd")
        before = graph.constant("constants/no_pads", [0] * 6)
        pads = graph.op("Concat", before, missing, name=f"{path}.pads", axis=0)
    return graph.op("Pad", gradient, pads, name=path)


def _covered(graph: Graph, name: str) -> str:
    """The height and width that the 2×2 pooling ``name`` covers, when the graph runs."""
    path = f"backward/{name}"
    if not graph.has(f"{path}.covered"):
        pooled = graph.op("Shape", name, name=f"{path}.pooled", start=2, end=4)
        graph.op("Mul", pooled, graph.constant("constants/two", 2), name=f"{path}.covered")
    return f"{path}.covered"
