"""The settings of a run: one dataclass, read by the library and the command line alike."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

from fastnst.errors import InvalidInput

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CHOICES = MappingProxyType(
    {
        "pooling": ("average", "max", "l2"),
        "padding": ("zero", "replicate"),
        "style_fit": ("aspect", "content"),
        "blending": ("targets", "losses"),
        "tv_form": ("squared", "absolute", "squared-sum", "absolute-sum", "nine-point"),
        "gradient_norm": ("none", "l1", "l2"),
        "preprocessing": ("auto", "caffe", "torchvision", "torchvision-255"),
        "color": ("style", "original", "luminance", "match-covariance", "match-histogram"),
        "optimizer": ("lbfgs", "spectral", "torch-lbfgs", "adam"),
        "engine": ("auto", "torch", "native", "onnx"),
        "provider": ("auto", "cpu", "cuda", "tensorrt", "openvino"),
        "precision": ("auto", "fp32", "bf16", "mixed"),
    }
)
STATISTICS = ("gram", "covariance", "mean-std", "wasserstein")
INITS = ("noise", "content", "matched")


@dataclass(frozen=True)
class Settings:
    """Everything that shapes a run, besides its pictures. The defaults are the preset ``gatys``.

    Attributes:
        size: Long side of the result in pixels; None means 512 on a GPU and 256 on a CPU.
            0 means the content picture's own size.
        style_fit: ``aspect``: each style picture keeps its aspect ratio, its long side is scaled
            to ``style_size``. ``content``: it is squashed to the width and height of the result.
        style_size: Long side of the style pictures in pixels; None means that of the result, 0
            each picture's own.
        style_scale: Factor on that: larger means larger strokes. One for all, or one for each
            style picture.
        iterations: Of the solver; each evaluates the objective once. With several scales, those at
            the first.
        min_size: Long side of the first of several scales, at least; each larger one starts from
            the one before it. None: one scale.
        scale_step: Ratio of a scale's size to that of the scale before it.
        scale_iterations: Iterations at each scale after the first; the last number is that of all
            further scales too. None: ``iterations`` at each.
        init: What the optimisation starts from: ``noise`` (white noise), ``content``, ``matched``
            (the content with its colours' mean and covariance matched to the style's), or the
            path of a picture.
        content_weight: α, weight of the content losses.
        style_weight: β, weight of the style losses.
        tv_weight: τ, weight of the total variation.
        tv_form: ``squared``, ``absolute``, ``squared-sum``, ``absolute-sum`` or ``nine-point``; see
            ``losses/total_variation.py``. The sums depend on the size of the picture.
        content_layers: Layers of the content representation.
        content_layer_weights: One for each content layer; None means 1 for each.
        style_layers: Layers of the style representation.
        style_layer_weights: w_l, one for each style layer; None means equal, with sum 1.
        statistics: What describes the style of a layer: one or more of ``gram``, ``covariance``,
            ``mean-std`` and ``wasserstein``; see ``losses/``. Several are added up.
        statistics_weights: One for each of ``statistics``; None means 1 for each.
        style_blend: Proportions of several style pictures; None means equal ones.
        blending: How several styles become one: ``targets``: the weighted mean of their statistics
            is the target. ``losses``: the weighted mean of their losses is the loss. For all
            statistics but ``wasserstein`` the two differ by a constant.
        gradient_norm: ``l1`` or ``l2``: the gradient of each loss with respect to its layer's
            features is divided by its norm, so that all layers pull alike; ``none``: it is not.
        pooling: ``average``, ``max`` or ``l2`` (root mean square).
        padding: Beyond the picture's edges are, for the first layer, ``zero`` (the mean colour of
            the network's training) or ``replicate`` (the colour of the edge).
        weights: ``vgg19-normalised``, ``vgg19``, ``torchvision``, ``torchvision-vgg16`` or a path.
        preprocessing: ``auto`` is what the weights were trained with; ``caffe``, ``torchvision``
            and ``torchvision-255`` (RGB, 0–255, mean subtracted, not divided by the standard
            deviation) replace it.
        color: ``style``: colours come from the style, as in the paper. ``original``: at the end the
            content's colours are put back, and the result gives the luminance alone.
            ``luminance``: the same, and both pictures are grey for the network.
            ``match-covariance``, ``match-histogram``: before the run the style pictures are given
            the mean and covariance, or all, of the distribution of the content's colours.
        optimizer: ``lbfgs``; ``spectral``: L-BFGS that also learns the curvature by frequency and
            colour, often in fewer iterations; ``torch-lbfgs``: ``torch.optim.LBFGS``, the reference; or
            ``adam``.
        history_size: Curvature pairs that L-BFGS keeps.
        learning_rate: Of Adam, about the change of a pixel in a step.
        averaging: Decay of the moving average of the iterates; the average is evaluated and
            yielded last. 0: none. Meant for Adam.
        seed: Of the white noise; the same seed gives the same picture on the same machine.
        engine: ``auto``, ``torch``, ``native`` or ``onnx``.
        provider: What runs the graph of engine ``onnx``: ``cpu``, ``cuda``, ``tensorrt``,
            ``openvino``, or ``auto``; see ``engines/providers.py``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: Of the features: ``fp32``; ``bf16``; ``mixed``: bf16 until that stalls, then fp32;
            or ``auto``: mixed where the native engine runs on a processor with avx512bf16, else fp32.
    """

    size: int | None = None
    style_fit: str = "aspect"
    style_size: int | None = None
    style_scale: tuple[float, ...] = (1.0,)
    iterations: int = 300
    min_size: int | None = None
    scale_step: float = 2.0
    scale_iterations: tuple[int, ...] | None = None
    init: str = "noise"
    content_weight: float = 1.0
    style_weight: float = 10.0
    tv_weight: float = 0.0
    tv_form: str = "squared"
    content_layers: tuple[str, ...] = ("relu4_2",)
    content_layer_weights: tuple[float, ...] | None = None
    style_layers: tuple[str, ...] = STYLE_LAYERS
    style_layer_weights: tuple[float, ...] | None = None
    statistics: tuple[str, ...] = ("gram",)
    statistics_weights: tuple[float, ...] | None = None
    style_blend: tuple[float, ...] | None = None
    blending: str = "targets"
    gradient_norm: str = "none"
    pooling: str = "average"
    padding: str = "zero"
    weights: str = "vgg19-normalised"
    preprocessing: str = "auto"
    color: str = "style"
    optimizer: str = "lbfgs"
    history_size: int = 100
    learning_rate: float = 0.02
    averaging: float = 0.0
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
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))
        for name in ("size", "style_size"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), 0, 100_000)
        _whole("iterations", self.iterations, 0, 1_000_000)
        self._check_scales()
        _whole("history_size", self.history_size, 1, 10_000)
        _whole("seed", self.seed, 0, 2**63 - 1)
        for name in ("content_weight", "style_weight", "tv_weight", "learning_rate", "averaging"):
            _weight(name, getattr(self, name))
        if self.averaging >= 1:
            raise InvalidInput(f"averaging is {self.averaging!r}: expected 0 or more, less than 1")
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
        self._check_statistics()
        if not (
            (self.content_weight and self.content_layers)
            or (self.style_weight and self.style_layers)
            or self.tv_weight
        ):
            raise InvalidInput("there is nothing to optimise: every weight is 0")
        for name, of in (
            ("content_layer_weights", "content_layers"),
            ("style_layer_weights", "style_layers"),
            ("statistics_weights", "statistics"),
        ):
            _weights(name, getattr(self, name), of, len(getattr(self, of)))
        if self.style_blend is not None:
            _weights("style_blend", self.style_blend, "style pictures", len(self.style_blend))
            if not sum(self.style_blend):
                raise InvalidInput("style_blend has no proportion above 0")
        _weights("style_scale", self.style_scale, "style pictures", len(self.style_scale))
        if not self.style_scale or min(self.style_scale) <= 0:
            raise InvalidInput(f"style_scale is {self.style_scale!r}: expected numbers above 0")
        if not self.init:
            raise InvalidInput(f"init is empty: choose {', '.join(INITS)} or a picture's path")

    def layer_weights(self) -> dict[str, float]:
        """``{style layer: w_l}``."""
        weights = self.style_layer_weights or (1 / len(self.style_layers),) * len(self.style_layers)
        return dict(zip(self.style_layers, weights, strict=True))

    def content_weights(self) -> dict[str, float]:
        """``{content layer: its weight}``."""
        weights = self.content_layer_weights or (1.0,) * len(self.content_layers)
        return dict(zip(self.content_layers, weights, strict=True))

    def blend(self, styles: int) -> tuple[float, ...]:
        """The proportions of so many style pictures, with sum 1.

        Raises:
            InvalidInput: if ``style_blend`` or ``style_scale`` is for another number.
        """
        proportions = self.style_blend or (1.0,) * styles
        for name, values in (("style_blend", proportions), ("style_scale", self.style_scale)):
            if len(values) != styles and not (name == "style_scale" and len(values) == 1):
                raise InvalidInput(
                    f"{name} has {len(values)} values for {styles} style picture"
                    f"{'s' if styles != 1 else ''}"
                )
        return tuple(value / sum(proportions) for value in proportions)

    def _check_scales(self) -> None:
        if self.min_size is not None:
            _whole("min_size", self.min_size, 1, 100_000)
        _weight("scale_step", self.scale_step)
        if not 1.05 <= self.scale_step <= 100:
            raise InvalidInput(
                f"scale_step is {self.scale_step!r}: expected a ratio from 1.05 to 100"
            )
        if self.scale_iterations is not None:
            if not isinstance(self.scale_iterations, tuple) or not self.scale_iterations:
                raise InvalidInput(
                    f"scale_iterations is {self.scale_iterations!r}: expected a list of numbers"
                )
            for count in self.scale_iterations:
                _whole("scale_iterations", count, 0, 1_000_000)

    def _check_statistics(self) -> None:
        chosen = self.statistics
        if isinstance(chosen, str) or not chosen or len(set(chosen)) != len(chosen):
            raise InvalidInput(f"statistics is {chosen!r}: expected a list without repetition")
        for name in chosen:
            if name not in STATISTICS:
                raise InvalidInput(f"statistics has {name!r}: choose from {', '.join(STATISTICS)}")

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


def _weights(name: str, values: Any, of: str, count: int) -> None:
    """Check an optional tuple of weights, one for each of something."""
    if values is None:
        return
    if not isinstance(values, tuple):
        raise InvalidInput(f"{name} is {values!r}: expected a list of numbers")
    if len(values) != count:
        raise InvalidInput(f"{name} has {len(values)} values for {count} {of.replace('_', ' ')}")
    for value in values:
        _weight(name, value)


def _layers(name: str, value: Any) -> None:
    if isinstance(value, str) or not all(isinstance(layer, str) for layer in value):
        raise InvalidInput(f"{name} is {value!r}: expected a list of layer names")
    if len(set(value)) != len(value):
        raise InvalidInput(f"{name} names a layer twice: {', '.join(value)}")
