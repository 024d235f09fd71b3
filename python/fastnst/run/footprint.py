"""What a run takes in memory, by what it grows with: counted from shapes where they are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fastnst.engines.create import choose_precision, finer_precision, unavailable_reason
from fastnst.engines.planned.cpu import PRODUCTS
from fastnst.engines.planned.layout import lay_out
from fastnst.engines.planned.walk import Layer, chain_of
from fastnst.engines.strips.native import TILES
from fastnst.engines.strips.planned import PlannedEvaluator
from fastnst.network.architecture import VGG19
from fastnst.ops import device as kernels
from fastnst.ops import extension
from fastnst.ops.convolution import SHARED, choose_tile
from fastnst.settings.settings import Settings
from fastnst.strips.geometry import level_of

# Bytes per pixel of features and their gradients where they are not counted: the peaks of whole
# runs with VGG-19 to relu5_1 in float32 (benchmarks, suite estimates).
TORCH_FEATURES = 2420
TORCH_GUIDED = 256  # the same for each region: features of the first style layer, guided
TORCH_FIXED = 130e6  # of PyTorch's engine: the network, and what its first operators set up
# What glibc keeps of blocks that PyTorch has freed, for each pixel up to a limit; nothing in strips
# (``available.return_large_blocks``).
TORCH_KEPT, TORCH_KEPT_AT_MOST = 800, 150e6
GPU_FEATURES = 3600
# Of engine native's kernels on a GPU: whole runs at 512 × 384, 1024 × 768 and 2048 × 1536 had 624,
# 1940 and 7199 MiB at their peaks on an H200.
KERNEL_FEATURES, KERNEL_FIXED = 1500, 195e6
GPU_COPIES = 3 * 4 * PlannedEvaluator.copied  # of a piece's features, and what is made of them
ONNX_FEATURES = 5600
PAIR = 2 * 3 * 4  # s and y of one curvature pair, float32; or both moments of Adam
COMPRESSED_PAIR = 6.5  # in eight bits, a scale for every 64 values
VECTOR = 12  # one of the picture's size in float32
# Vectors that a solver keeps, with the picture and the best one; and those that it makes on its
# way. Spectral: three spectra, which it keeps where the picture is in pieces, and their products or
# parts of them. Adam: the denominators of its steps, and the gradient times its scale.
VECTORS = {"lbfgs": (4, 0), "spectral": (8, 2), "torch-lbfgs": (5, 4), "adam": (4, 3)}
# Matrices of products among the curvature pairs: those that a solver keeps, three where a picture
# is in pieces, and what a step makes of them.
MATRICES = 8
GUIDED = 5  # copies of a layer's gradient, and what they are made of, where it is guided
MAPS = 10  # of a region: where it is in the picture, and in the style layers
SNAPSHOTS = 6  # two pictures of 8 bits
BEGIN = 3 * VECTOR  # content, start, and what the start is made of
SCRATCH = 80e6  # of the kernels, Gram matrices, what is imported and set up by the first operators
WEIGHTS = 80e6  # of VGG-19 as they are read
SIDE = 768  # of the picture whose shapes are counted: even at every pooling


@dataclass(frozen=True)
class Footprint:
    """Bytes that a run takes at its peak.

    Attributes:
        fixed: Whatever the size, for a picture computed whole: the network and its filters, and
            products among the curvature pairs.
        fixed_in_pieces: The same for one computed in pieces, all in Winograd tiles of one size.
        piece: For each pixel that is computed at a time: features and their gradients.
        copies: The same of what a picture computed whole makes beside them: F − P, and features in
            float32 where statistics need them. A piece makes them a few rows at a time.
        vectors: For each pixel of the result, like those that follow: what the solver keeps, and
            the gradient of an engine in strips. A scratch file may hold it.
        content: Content targets, if they are kept. A scratch file may hold them too.
        temporary: What the solver makes on its way.
        held: What lies in memory whatever happens: pictures from the way, colours to be put back.
        begin: Pictures before the optimisation begins, when there are no vectors.
    """

    fixed: float
    fixed_in_pieces: float
    piece: float
    copies: float
    vectors: float
    content: float
    temporary: float
    held: float
    begin: float

    def whole(self, pixels: int) -> int:
        """The peak of a picture that is computed whole."""
        picture = self.vectors + self.content + self.temporary + self.held
        computed = self.piece + self.copies
        return round(self.fixed + (computed + max(picture, self.begin + self.content)) * pixels)


def footprint(
    settings: Settings,
    device: torch.device,
    pairs: int,
    width: int,
    height: int,
    *,
    regions: int = 0,
) -> Footprint:
    """What a run with these settings takes on a device.

    Args:
        settings: The settings of the run.
        device: Where it runs.
        pairs: Curvature pairs that L-BFGS will hold.
        width: Width of the result, on which the choice of Winograd tiles depends.
        height: Height of the result.
        regions: Of the picture, each with a style of its own; 0: there are none.
    """
    kept, made = VECTORS[settings.optimizer] if device.type == "cpu" else (11, 0)
    pairs = 0 if settings.optimizer == "adam" else pairs
    average = 2 if settings.averaging else 0
    colours = VECTOR if settings.color in ("original", "luminance") else 0
    fixed, fixed_in_pieces, copies = 0.0, 0.0, 0.0
    piece = float(GPU_FEATURES)
    if counts(settings, device):
        fixed, fixed_in_pieces, piece, copies = _native(settings, width, height, regions)
    elif settings.engine == "onnx":
        piece = ONNX_FEATURES
    elif device.type == "cuda":
        if _measured(settings, device) and not regions:
            fixed, piece = KERNEL_FIXED, KERNEL_FEATURES
        fixed_in_pieces = KERNEL_FIXED + GPU_COPIES
    elif device.type == "cpu":
        fixed_in_pieces = TORCH_FIXED
        fixed = TORCH_FIXED + min(TORCH_KEPT * width * height, TORCH_KEPT_AT_MOST)
        piece, copies = TORCH_FEATURES, regions * TORCH_GUIDED
    matrices = MATRICES * matrix_bytes(pairs)
    return Footprint(
        fixed + matrices,
        fixed_in_pieces + matrices,
        piece,
        copies,
        (kept + 1) * VECTOR + pairs * pair_bytes(settings, device),
        _targets(settings),
        (made + average) * VECTOR,
        SNAPSHOTS + colours + regions * MAPS,
        BEGIN + regions * MAPS,
    )


def counts(settings: Settings, device: torch.device) -> bool:
    """Whether features are counted: those of engine ``native`` on a CPU."""
    wanted = settings.engine in ("auto", "native") and device.type == "cpu"
    return wanted and unavailable_reason("native", device) is None


def matrix_bytes(pairs: int) -> int:
    """Bytes of a matrix of products among so many curvature pairs, float64."""
    return 8 * pairs**2


def pair_bytes(settings: Settings, device: torch.device) -> float:
    """Bytes of a curvature pair for each pixel."""
    compressed = settings.optimizer in ("lbfgs", "spectral") and extension.is_available()
    if device.type == "cuda":  # in the kernels of engine native, whose solver stays on the device
        compressed &= not settings.averaging and _on_kernels(settings, device)
    return COMPRESSED_PAIR if compressed else PAIR


def _on_kernels(settings: Settings, device: torch.device) -> bool:
    """Whether the engine on a GPU is ``native`` with the kernels of csrc/cuda."""
    wanted = settings.engine in ("auto", "native")
    return wanted and kernels.unavailable_reason(device) is None


def _measured(settings: Settings, device: torch.device) -> bool:
    """Whether the kernels find all losses and poolings of a run, as in those that were measured."""
    plain = settings.statistics == ("gram",) and settings.pooling != "l2"
    return plain and settings.gradient_norm == "none" and _on_kernels(settings, device)


def _layers(settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...], Sequence[Layer]]:
    """Content layers, style layers, and the network that they need.

    It is VGG-19, which has the most layers of the networks that there are.
    """
    content = tuple(settings.content_weights() if settings.content_weight else ())
    style = tuple(settings.layer_weights() if settings.style_weight else ())
    return content, style, chain_of(VGG19, VGG19.up_to({*content, *style}))


def _elements(layers: Sequence[Layer]) -> dict[str, float]:
    """The numbers that each layer has for each pixel."""
    return {
        name: shape[1] * shape[2] * shape[3] / SIDE**2
        for layer in layers
        for name, shape in _shapes(layer.conv, layer.relu, layer.pool, layer.channels)
    }


def _targets(settings: Settings) -> float:
    """Bytes of the content targets for each pixel."""
    content, _, layers = _layers(settings)
    elements = _elements(layers)
    return sum(4 * elements[name] for name in content)


def _native(
    settings: Settings, width: int, height: int, regions: int
) -> tuple[float, float, float, float]:
    """Both fixed parts, the features of a piece, and the copies of a whole picture's."""
    content, style, layers = _layers(settings)
    elements = _elements(layers)
    layout = lay_out(layers, {*content, *style}, settings.pooling, SIDE, SIDE)
    precise = 2 if settings.precision == "bf16" else 4
    piece = layout.size(precise) / SIDE**2 + 2 * 12
    if settings.padding == "replicate":
        piece += 2 * precise * 64  # conv1_1, padded
    if settings.pooling == "l2":
        piece += 2 * precise * 64  # squares and quotients of the first pooling's window
    copies = sum(4 * elements[name] for name in content)  # F − P
    shallowest = 4 * max((elements[name] for name in style), default=0)  # of which copies are made
    if regions:  # by autograd: the features times each region's guidance, and gradients
        copies += (regions + GUIDED) * shallowest
    elif settings.statistics != ("gram",):  # a layer's features and their gradient in float32
        copies += 3 * shallowest
    precision = choose_precision(settings, torch.device("cpu"))
    fixed = _network(precision, layers, (height, width))
    return fixed, _network(precision, layers, None), piece, copies


def _shapes(
    conv: str, relu: str, pool: str | None, channels: int
) -> list[tuple[str, tuple[int, int, int, int]]]:
    side = SIDE >> level_of(conv)
    found = [(name, (1, side, side, channels)) for name in (conv, relu)]
    if pool is not None:
        found.append((pool, (1, side // 2, side // 2, channels)))
    return found


def _network(precision: str, layers: Sequence[Layer], size: tuple[int, int] | None) -> float:
    """Bytes of a network and of its transformed filters for both ways.

    Args:
        precision: ``fp32``, ``int16``, ``bf16``; or ``mixed``, which takes most where it ends with
            features in float32, and products in bfloat16 on the way back alone.
        layers: From the picture to the deepest.
        size: Height and width of a picture that is computed whole; None: in pieces.
    """
    shapes = VGG19.convolutions()
    forward = back = precision
    if precision == "mixed":
        forward = finer_precision("native", torch.device("cpu"))
        back = "bf16"  # which takes as much as int16
    total = SCRATCH + WEIGHTS
    for layer in layers[1:]:
        channels_in, channels_out = shapes[layer.conv]
        numbers = channels_in * channels_out
        shared = forward == back == "fp32" and numbers >= SHARED
        for way in (forward,) if shared else (forward, back):
            tile = TILES[way]
            if size is not None:
                height, width = (max(1, n >> level_of(layer.conv)) for n in size)
                tile = choose_tile(PRODUCTS[way], (1, height, width, channels_in, channels_out))
            total += numbers * (tile + 2) ** 2 * PRODUCTS[way].itemsize
    return total
