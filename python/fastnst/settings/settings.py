"""The settings of a run: one dataclass, read by the library and the command line alike.

Each field says in one place what it may be, its default, its help and where it stands: its
``Spec``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

from fastnst.errors import InvalidInput
from fastnst.settings.kinds import Choice, NameOrFile, Number, Several, Text, Whole, shown
from fastnst.settings.spec import (
    BASICS,
    LOOK,
    MACHINE,
    NETWORK,
    SCALES,
    SOLVER,
    Spec,
    spec,
    spec_of,
)

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
STATISTICS = ("gram", "covariance", "mean-std", "wasserstein")
INITS = ("noise", "content", "matched")
TORCHVISION_WEIGHTS = ("torchvision", "torchvision-vgg16")
WEIGHTS = ("vgg19-normalised", "vgg19", *TORCHVISION_WEIGHTS)

HISTORY_SIZE = 100  # curvature pairs
HISTORY_SIZE_WHEN_LARGE = 10
LARGE = 4_000_000  # pixels of a result above which it is large
MIDDLE = 0.5  # the strength that leaves the weights as they are
STEEPNESS = 2.0  # of the weights' ratio in the strength: 0.25 is a ninth of it, 0.75 nine times

# Why commands refuse a strength, and other settings that are for both.
NO_CONTENT, NO_STYLE = "a texture has no content", "a reconstruction has no style"

LARGEST_WEIGHT = 1e30  # products with it are finite in float32
_PIXELS = Whole(0, 100_000)
_ITERATIONS = Whole(0, 1_000_000)
_WEIGHT = Number(high=LARGEST_WEIGHT)
_WEIGHT_LIST = Several(_WEIGHT, "numbers")
_LAYERS = Several(Text("a layer's name", r"\w[\w.-]*"), "layer names", distinct=True)


@dataclass(frozen=True)
class Settings:
    """Everything that shapes a run, besides its pictures. The defaults are the preset ``gatys``.

    Lists of any kind become tuples, numbers of numpy plain ones, paths texts.

    Attributes:
        size: Long side of the result in pixels; None means 512, 0 the content picture's own size.
        style_fit: ``aspect``: each style picture keeps its aspect ratio, its long side is scaled
            to ``style_size``. ``content``: it is squashed to the width and height of the result,
            and there is no ``style_size``.
        style_size: Long side of the style pictures in pixels; None means that of the result, 0
            each picture's own.
        style_scale: Factor on ``style_size``; a larger one means larger strokes. One for all, or
            one for each style picture.
        iterations: Number of iterations of the solver, each of which evaluates the objective once.
            With several scales, those at the first.
        min_size: Long side of the first of several scales, at least; each larger one starts from
            the one before it. None means one scale.
        scale_step: Ratio of a scale's size to that of the scale before it.
        scale_iterations: Iterations at each scale after the first; the last number is that of all
            further scales too. None means ``iterations`` at each.
        init: What the optimisation starts from: ``noise`` (white noise), ``content``, ``matched``
            (the content with its colours' mean and covariance matched to the style's, with masks
            region by region, and what is left without a style as it is), or the path of a picture.
        strength: How much of the painting, from 0 (the photograph, whatever the other settings
            say) to 1 (its style alone counts); 0.5 leaves the weights as they are. See
            ``balanced``.
        content_weight: α, weight of the content losses.
        style_weight: β, weight of the style losses.
        tv_weight: τ, weight of the total variation.
        tv_form: Form of the total variation; see ``losses/total_variation.py``. The sums depend on
            the size of the picture.
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
            features is divided by its norm, so that all layers pull alike. ``none``: it is not.
        pooling: ``average``, ``max`` or ``l2`` (root mean square).
        padding: What the first layer sees beyond the picture's edges: ``zero`` (the mean colour of
            the network's training) or ``replicate`` (the colour of the edge).
        weights: Name of the network's weights, or the path of a file with weights.
        preprocessing: ``auto`` is what the weights were trained with; ``caffe``, ``torchvision``
            and ``torchvision-255`` (RGB, 0–255, mean subtracted, not divided by the standard
            deviation) replace it.
        color: ``style``: colours come from the style, as in the paper. ``original``: at the end the
            content's colours are put back, and the result gives the luminance alone.
            ``luminance``: the same, and both pictures are grey for the network.
            ``match-covariance``, ``match-histogram``: before the run the style pictures are given
            the mean and covariance, or the whole distribution, of the content's colours.
        optimizer: ``lbfgs``; ``spectral``: L-BFGS that also learns the curvature by frequency and
            colour, often in fewer iterations; ``torch-lbfgs``: ``torch.optim.LBFGS``, the
            reference; or ``adam``.
        history_size: Number of curvature pairs that L-BFGS keeps. None means 100, or 10 where the
            result has more than 4 megapixels: each pair takes 6.5 bytes a pixel or more. A run's
            own record has the number.
        learning_rate: Adam's learning rate, about the change of a pixel in a step.
        averaging: Decay of the moving average of the iterates; the average is evaluated and
            yielded last. 0 means none. Meant for Adam.
        seed: Seed of the white noise; the same seed gives the same picture on the same machine.
        engine: What computes the objective and its gradient; ``auto`` is the fastest that runs.
        provider: What runs the graph of engine ``onnx``; see ``engines/onnx/providers.py``.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``; ``int16``: features in fp32, and convolutions with products of 16-bit
            integers, by engine native on a CPU with avx512vnni; ``bf16``; ``mixed``: bf16 until
            that stalls, then int16 where it can be had, else fp32, where engine native on a CPU
            goes on multiplying in bfloat16 on the way back; or ``auto``: mixed where the native
            engine runs on a processor that gains by products of bfloat16 (avx512bf16 on AMD's,
            neonbf16) or a GPU that does, else int16 where it can be had, else fp32.
    """

    size: int | None = field(
        default=None,
        metadata=spec(_PIXELS, BASICS, "Long side in pixels; 0: the picture's own.", none="512"),
    )
    style_fit: str = field(
        default="aspect",
        metadata=spec(
            Choice(("aspect", "content")),
            LOOK,
            "The style keeps its aspect or takes the content's.",
        ),
    )
    style_size: int | None = field(
        default=None,
        metadata=spec(_PIXELS, LOOK, "Long side of the style; 0: its own.", none="the result's"),
    )
    style_scale: tuple[float, ...] = field(
        default=(1.0,),
        metadata=spec(
            Several(Number(0.0, 1000.0, above=True), "numbers", least=1),
            LOOK,
            "Factor on the style's size, for all or one each; more: larger strokes.",
        ),
    )
    iterations: int = field(default=300, metadata=spec(_ITERATIONS, BASICS, "Steps of the solver."))
    min_size: int | None = field(
        default=None,
        metadata=spec(
            Whole(1, 100_000), SCALES, "Work coarse to fine, from this size.", none="one scale"
        ),
    )
    scale_step: float = field(
        default=2.0,
        metadata=spec(
            Number(1.05, 100.0, noun="ratio"), SCALES, "Ratio of one scale's size to the next."
        ),
    )
    scale_iterations: tuple[int, ...] | None = field(
        default=None,
        metadata=spec(
            Several(_ITERATIONS, "whole numbers", least=1),
            SCALES,
            "At each later scale, as 150,75.",
            none="--iterations",
        ),
    )
    init: str = field(
        default="noise",
        metadata=spec(
            NameOrFile(INITS, "a picture's path"), BASICS, f"Start: {', '.join(INITS)}, a file."
        ),
    )
    strength: float = field(
        default=MIDDLE,
        metadata=spec(
            Number(high=1.0),
            BASICS,
            "0: the photograph; 1: the painting's style alone; 0.5: the weights' own.",
        ),
    )
    content_weight: float = field(
        default=1.0, metadata=spec(_WEIGHT, LOOK, "α; more: more of the content.")
    )
    style_weight: float = field(
        default=10.0, metadata=spec(_WEIGHT, LOOK, "β; more: more of the style.")
    )
    tv_weight: float = field(
        default=0.0, metadata=spec(_WEIGHT, LOOK, "τ, total variation; more: smoother.")
    )
    tv_form: str = field(
        default="squared",
        metadata=spec(
            Choice(("squared", "absolute", "squared-sum", "absolute-sum", "nine-point", "color")),
            LOOK,
            "Form of the total variation; color: of colour alone, against grain.",
        ),
    )
    content_layers: tuple[str, ...] = field(
        default=("relu4_2",), metadata=spec(_LAYERS, NETWORK, "Layers that see the content.")
    )
    content_layer_weights: tuple[float, ...] | None = field(
        default=None,
        metadata=spec(_WEIGHT_LIST, NETWORK, "One for each content layer.", none="1 each"),
    )
    style_layers: tuple[str, ...] = field(
        default=STYLE_LAYERS, metadata=spec(_LAYERS, NETWORK, "Layers that see the style.")
    )
    style_layer_weights: tuple[float, ...] | None = field(
        default=None,
        metadata=spec(_WEIGHT_LIST, NETWORK, "One for each style layer.", none="equal, sum 1"),
    )
    statistics: tuple[str, ...] = field(
        default=("gram",),
        metadata=spec(
            Several(Choice(STATISTICS), "statistics", least=1, distinct=True),
            NETWORK,
            "What describes a style; several are added up.",
        ),
    )
    statistics_weights: tuple[float, ...] | None = field(
        default=None,
        metadata=spec(_WEIGHT_LIST, NETWORK, "One for each statistic.", none="1 each"),
    )
    style_blend: tuple[float, ...] | None = field(
        default=None,
        metadata=spec(
            Several(_WEIGHT, "numbers", least=1),  # their sum is finite
            LOOK,
            "Proportions of several styles, as 1,3.",
            none="equal",
        ),
    )
    blending: str = field(
        default="targets",
        metadata=spec(Choice(("targets", "losses")), LOOK, "What of several styles is blended."),
    )
    gradient_norm: str = field(
        default="none",
        metadata=spec(
            Choice(("none", "l1", "l2")), NETWORK, "Norm that layers' gradients are divided by."
        ),
    )
    pooling: str = field(
        default="average",
        metadata=spec(Choice(("average", "max", "l2")), NETWORK, "How VGG's layers are pooled."),
    )
    padding: str = field(
        default="zero",
        metadata=spec(
            Choice(("zero", "replicate")), NETWORK, "What the first layer sees beyond the edges."
        ),
    )
    weights: str = field(
        default="vgg19-normalised",
        metadata=spec(
            NameOrFile(WEIGHTS, "a file with weights"), NETWORK, f"{', '.join(WEIGHTS)}, or a file."
        ),
    )
    preprocessing: str = field(
        default="auto",
        metadata=spec(
            Choice(("auto", "caffe", "torchvision", "torchvision-255")),
            NETWORK,
            "Preprocessing of the network's input.",
        ),
    )
    color: str = field(
        default="style",
        metadata=spec(
            Choice(("style", "original", "luminance", "match-covariance", "match-histogram")),
            LOOK,
            "Where the colours come from.",
        ),
    )
    optimizer: str = field(
        default="lbfgs",
        metadata=spec(Choice(("lbfgs", "spectral", "torch-lbfgs", "adam")), SOLVER, "The solver."),
    )
    history_size: int | None = field(
        default=None,
        metadata=spec(
            Whole(1, 10_000),
            SOLVER,
            "Curvature pairs of L-BFGS.",
            none="100, above 4 megapixels 10",
        ),
    )
    learning_rate: float = field(
        default=0.02, metadata=spec(_WEIGHT, SOLVER, "Adam's learning rate.")
    )
    averaging: float = field(
        default=0.0,
        metadata=spec(
            Number(high=1.0, below=True),
            SOLVER,
            "Decay of the iterates' average, for Adam; 0: none.",
        ),
    )
    seed: int = field(
        default=0, metadata=spec(Whole(0, 2**63 - 1), SOLVER, "Seed of the white noise.")
    )
    engine: str = field(
        default="auto",
        metadata=spec(
            Choice(("auto", "torch", "native", "onnx")), MACHINE, "What computes the objective."
        ),
    )
    provider: str = field(
        default="auto",
        metadata=spec(
            Choice(("auto", "cpu", "cuda", "tensorrt", "openvino")),
            MACHINE,
            "What runs the graph of engine onnx.",
        ),
    )
    device: str = field(
        default="auto",
        metadata=spec(
            Text(
                "auto, cpu, cuda or cuda:N",
                r"auto|cpu|cuda|cuda:[0-9]{1,3}",
                names=("auto", "cpu", "cuda"),
            ),
            MACHINE,
            "Where it is computed: auto, cpu, cuda, cuda:N.",
        ),
    )
    precision: str = field(
        default="auto",
        metadata=spec(
            Choice(("auto", "fp32", "int16", "bf16", "mixed")),
            MACHINE,
            "Precision of features and products.",
        ),
    )

    def __post_init__(self) -> None:
        """Check every value, and how they go together.

        Raises:
            InvalidInput: naming the first setting that is wrong, what was expected and its value.
        """
        for name, of in SPECS.items():
            object.__setattr__(self, name, of.check(name, getattr(self, name)))
        self._check_weights()
        if self.style_fit == "content" and self.style_size is not None:
            raise InvalidInput(
                f"style_size is {self.style_size}, which style_fit 'content' has no use for: the "
                "style takes the result's size, times style_scale"
            )
        if self.provider != "auto" and self.engine != "onnx":
            raise InvalidInput(
                f"provider is {self.provider!r}, which is for engine onnx, and engine is "
                f"{self.engine!r}"
            )

    def _check_weights(self) -> None:
        content, style, variation = self._balance()
        content_counts = content and _any(self.content_layer_weights, self.content_layers)
        style_counts = (
            style
            and _any(self.style_layer_weights, self.style_layers)
            and _any(self.statistics_weights, self.statistics)
        )
        if not (content_counts or style_counts or variation):
            at = "" if self.strength == MIDDLE else f" at strength {self.strength:g}"
            raise InvalidInput(f"there is nothing to optimise: every weight is 0{at}")
        for part in ("content", "style"):
            weight = getattr(self, f"{part}_weight")
            if weight and not getattr(self, f"{part}_layers"):
                raise InvalidInput(
                    f"{part}_layers is empty: expected a layer's name, or {part}_weight 0, "
                    f"which is {weight:g}"
                )
        for name, one_each in (
            ("content_layer_weights", "content_layers"),
            ("style_layer_weights", "style_layers"),
            ("statistics_weights", "statistics"),
        ):
            values, count = getattr(self, name), len(getattr(self, one_each))
            if values is not None and len(values) != count:
                raise InvalidInput(
                    f"{name} has {len(values)} values for {count} {one_each.replace('_', ' ')}"
                )
        if self.style_blend is not None and not any(self.style_blend):
            raise InvalidInput(
                f"style_blend is {shown(self.style_blend)}: it has no proportion above 0"
            )

    def balanced(self) -> Settings:
        """These settings with the weights that ``strength`` makes of theirs, and no strength left.

        The ratio of the style weight to the content weight is multiplied by (s / (1 − s))², where
        s is the strength: below 0.5 the style weight becomes less, above it the content weight. So
        1 has no content, and opposite strengths divide and multiply the ratio alike, whatever the
        preset. 0 is the photograph at the size of the result: besides the style it has no total
        variation, starts from the photograph at that size and takes no step, which would follow
        the rounding of its features.
        """
        if self.strength == MIDDLE:
            return self
        content, style, variation = self._balance()
        balanced = replace(
            self,
            strength=MIDDLE,
            content_weight=content,
            style_weight=style,
            tv_weight=variation,
        )
        if self.strength:
            return balanced
        return replace(balanced, init="content", iterations=0, min_size=None)

    def _balance(self) -> tuple[float, float, float]:
        """α, β and τ, as ``strength`` makes them."""
        content, style, s = self.content_weight, self.style_weight, self.strength
        if not s:
            return content, 0.0, 0.0
        if s < MIDDLE:
            style *= (s / (1 - s)) ** STEEPNESS
        elif s > MIDDLE:
            content *= ((1 - s) / s) ** STEEPNESS
        return content, style, self.tv_weight

    def layer_weights(self) -> dict[str, float]:
        """``{style layer: w_l}``."""
        count = len(self.style_layers)
        weights = self.style_layer_weights or (1 / max(1, count),) * count
        return dict(zip(self.style_layers, weights, strict=True))

    def content_weights(self) -> dict[str, float]:
        """``{content layer: its weight}``."""
        weights = self.content_layer_weights or (1.0,) * len(self.content_layers)
        return dict(zip(self.content_layers, weights, strict=True))

    def pairs(self, pixels: int) -> int:
        """How many curvature pairs L-BFGS keeps for a result with this many pixels."""
        if self.history_size is not None:
            return self.history_size
        return HISTORY_SIZE_WHEN_LARGE if pixels > LARGE else HISTORY_SIZE

    def kept_pairs(self, pixels: int) -> int:
        """How many of them the solver keeps: as many, but none if it is Adam."""
        return 0 if self.optimizer == "adam" else self.pairs(pixels)

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

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values for JSON."""
        return asdict(self)


def check_no_strength(strength: Any, why: str) -> None:
    """Make sure that nobody asks for a strength where there are not both content and style.

    Args:
        strength: The setting as it was given.
        why: What there is not, as ``a texture has no content``.

    Raises:
        InvalidInput: unless it is 0.5.
    """
    value = SPECS["strength"].check("strength", strength)
    if value != MIDDLE:
        raise InvalidInput(f"strength is {value:g}: {why} to be weighed against; leave it out")


def _any(weights: tuple[float, ...] | None, names: tuple[str, ...]) -> bool:
    """Whether one of the names counts; without weights all of them do."""
    return bool(names) if weights is None else any(weights)


SPECS: Mapping[str, Spec] = MappingProxyType({f.name: spec_of(f) for f in fields(Settings)})
DEFAULTS: Mapping[str, Any] = MappingProxyType({f.name: f.default for f in fields(Settings)})
CHOICES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: of.kind.choices for name, of in SPECS.items() if isinstance(of.kind, Choice)}
)
