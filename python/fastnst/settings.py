"""The settings of a run: one dataclass, read by the library and the command line alike."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from fastnst.errors import InvalidInput

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CHOICES = MappingProxyType(
    {
        "pooling": ("average", "max"),
        "style_fit": ("aspect", "content"),
        "preprocessing": ("auto", "caffe", "torchvision"),
        "optimizer": ("lbfgs", "spectral", "torch-lbfgs"),
        "engine": ("auto", "torch", "native", "onnx"),
        "provider": ("auto", "cpu", "cuda", "tensorrt", "openvino"),
        "precision": ("auto", "fp32", "bf16"),
    }
)
INITS = ("noise", "content", "matched")


@dataclass(frozen=True)
class Settings:
    """Everything that shapes a run, besides its pictures. The defaults are the preset ``gatys``.

    Attributes:
        size: Long side of the result in pixels; None means 512 on a GPU and 256 on a CPU.
            0 means the content picture's own size.
        style_fit: ``aspect``: the style keeps its aspect ratio, its long side is scaled to
            ``size``. ``content``: it is squashed to the width and height of the result.
        iterations: L-BFGS iterations; each evaluates the objective once.
        init: What the optimisation starts from: ``noise`` (white noise), ``content``, ``matched``
            (the content with its colours' mean and covariance matched to the style's), or the
            path of a picture.
        content_weight: α, weight of the content losses.
        style_weight: β, weight of the style losses.
        tv_weight: τ, weight of the total variation.
        content_layers: Layers of the content representation.
        style_layers: Layers of the style representation.
        style_layer_weights: w_l, one for each style layer; None means equal, with sum 1.
        pooling: ``average`` or ``max``.
        weights: ``vgg19-normalised``, ``vgg19``, ``torchvision``, ``torchvision-vgg16`` or a path.
        preprocessing: For weights from a file: ``auto``, ``caffe`` or ``torchvision``.
        optimizer: ``lbfgs``; ``spectral``: L-BFGS that also learns the curvature by frequency and
            colour, in fewer iterations; or ``torch-lbfgs``: ``torch.optim.LBFGS``, the reference.
        history_size: Curvature pairs that L-BFGS keeps.
        seed: Of the white noise; the same seed gives the same picture on the same machine.
        engine: ``auto``, ``torch``, ``native`` or ``onnx``.
        provider: What runs the graph of engine ``onnx``: ``cpu``, ``cuda``, ``tensorrt``,
            ``openvino``, or ``auto``; see ``engines/providers.py``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: Of the features: ``auto``, ``fp32`` or ``bf16``.
    """

    size: int | None = None
    style_fit: str = "aspect"
    iterations: int = 300
    init: str = "noise"
    content_weight: float = 1.0
    style_weight: float = 10.0
    tv_weight: float = 0.0
    content_layers: tuple[str, ...] = ("relu4_2",)
    style_layers: tuple[str, ...] = STYLE_LAYERS
    style_layer_weights: tuple[float, ...] | None = None
    pooling: str = "average"
    weights: str = "vgg19-normalised"
    preprocessing: str = "auto"
    optimizer: str = "lbfgs"
    history_size: int = 100
    seed: int = 0
    engine: str = "auto"
    provider: str = "auto"
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            InvalidInput: naming the first setting that is wrong, its value and what it may be.
        """
        for name in ("content_layers", "style_layers", "style_layer_weights"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        if self.size is not None:
            _whole("size", self.size, 0, 100_000)
        _whole("iterations", self.iterations, 0, 1_000_000)
        _whole("history_size", self.history_size, 1, 10_000)
        _whole("seed", self.seed, 0, 2**63 - 1)
        for name in ("content_weight", "style_weight", "tv_weight"):
            _weight(name, getattr(self, name))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InvalidInput(
                    f"{name} is {getattr(self, name)!r}: choose one of {', '.join(choices)}"
                )
        if self.provider != "auto" and self.engine != "onnx":
            raise InvalidInput(
                f"provider is {self.provider!r}, which is for engine onnx, and engine is "
                f"{self.engine!r}"
            )
        for name in ("content_layers", "style_layers"):
            _layers(name, getattr(self, name))
        if not (
            (self.content_weight and self.content_layers)
            or (self.style_weight and self.style_layers)
            or self.tv_weight
        ):
            raise InvalidInput("there is nothing to optimise: every weight is 0")
        if self.style_layer_weights is not None:
            if len(self.style_layer_weights) != len(self.style_layers):
                raise InvalidInput(
                    f"style_layer_weights has {len(self.style_layer_weights)} values "
                    f"for {len(self.style_layers)} style layers"
                )
            for value in self.style_layer_weights:
                _weight("style_layer_weights", value)
        if not self.init:
            raise InvalidInput(f"init is empty: choose {', '.join(INITS)} or a picture's path")

    def layer_weights(self) -> dict[str, float]:
        """``{style layer: w_l}``."""
        weights = self.style_layer_weights or (1 / len(self.style_layers),) * len(self.style_layers)
        return dict(zip(self.style_layers, weights, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values for JSON."""
        return asdict(self)


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInput(f"{name} is {value!r}: expected a whole number from {low} to {high}")


def _weight(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInput(f"{name} is {value!r}: expected a number")
    if not (math.isfinite(value) and value >= 0):
        raise InvalidInput(f"{name} is {value!r}: expected a finite number, 0 or more")


def _layers(name: str, value: Any) -> None:
    if isinstance(value, str) or not all(isinstance(layer, str) for layer in value):
        raise InvalidInput(f"{name} is {value!r}: expected a list of layer names")
    if len(set(value)) != len(value):
        raise InvalidInput(f"{name} names a layer twice: {', '.join(value)}")
