"""Which engine runs, and how it is made.

``torch``   plain PyTorch and autograd, everywhere;
``native``  a planned evaluation: on a CPU with compiled Winograd convolutions, Gram matrices and
            style losses, on a GPU with cuDNN's convolutions and, where built, the CUDA kernels;
``onnx``    one graph for the loss and its gradient, run by ONNX Runtime or OpenVINO.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastnst.cache import Cache
from fastnst.devices import choose_device, undisturbed
from fastnst.engines.mixed_engine import MixedEngine
from fastnst.engines.onnx import providers
from fastnst.engines.onnx.engine import OnnxEngine
from fastnst.engines.planned import cpu, cuda
from fastnst.engines.planned.cpu import NativeEngine
from fastnst.engines.planned.cuda import PlannedEngine
from fastnst.engines.planned.kernels import KernelEngine
from fastnst.engines.strips.autograd import AutogradEvaluator
from fastnst.engines.strips.engine import StripEngine
from fastnst.engines.strips.evaluator import Evaluator
from fastnst.engines.strips.exchange import ExchangeEngine, ExchangingEvaluator
from fastnst.engines.strips.native import TILES, NativeEvaluator
from fastnst.engines.strips.on_device import OnDevice
from fastnst.engines.strips.planned import KernelEvaluator, PlannedEvaluator
from fastnst.engines.strips.targets import MakeTargets, chosen, given
from fastnst.engines.torch_engine import TorchEngine
from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.evaluation import Engine
from fastnst.losses import LayerLoss, TemporalLoss
from fastnst.network.weights import Weights
from fastnst.objective.bands import content_features
from fastnst.objective.build import build_objective
from fastnst.objective.objective import Objective
from fastnst.objective.regions import Region
from fastnst.ops import device as device_kernels
from fastnst.ops import extension
from fastnst.ranks.protocol import Alone, Communication
from fastnst.ranks.share import Share
from fastnst.settings.settings import Settings
from fastnst.strips.geometry import Grid, Spacing
from fastnst.strips.storage import Store

# Pixels of a picture whose targets are computed together; larger ones are cut for that.
TARGETS_AT_A_TIME = 4_000_000
FEWEST_AT_A_TIME = 1_000_000  # where several ranks share a picture and exchange rows


@dataclass(frozen=True)
class Choice:
    """What will run.

    Attributes:
        device: Where.
        engine: ``torch``, ``native`` or ``onnx``.
        precision: ``fp32``, ``int16``, ``bf16`` or ``mixed``.
        provider: What runs the graph of engine ``onnx``; None for the others.
    """

    device: torch.device
    engine: str
    precision: str
    provider: str | None = None


def choose(settings: Settings) -> Choice:
    """What a run with these settings will use here: device, engine, precision, provider.

    Raises:
        InvalidInput: for a device that is none.
        BackendUnavailable: if what was asked for by name cannot run here.
    """
    device = choose_device(settings.device)
    engine = _choose_engine(settings.engine, device)
    if engine == "onnx":
        provider, precision = _choose_provider(settings, device)
        return Choice(device, engine, precision, provider)
    if not (settings.content_weight or settings.style_weight):
        return Choice(device, engine, "fp32")  # no network, nothing to be rounded
    return Choice(device, engine, choose_precision(settings, device))


def unavailable_reason(engine: str, device: torch.device) -> str | None:
    """Why an engine cannot run on a device, in a few words, or None if it can."""
    if engine == "torch":
        return None
    if engine == "onnx":
        return providers.unavailable_reason("cuda" if device.type == "cuda" else "cpu", device)
    if device.type == "cpu" and not extension.is_available():
        return extension.unavailable_reason() or "the compiled extension is missing"
    return None


def choose_precision(settings: Settings, device: torch.device) -> str:
    """The precision of a run whose settings leave it open: what is quickest and ends as low.

    Of engine native it is ``mixed`` on a processor that gains by bfloat16 products (avx512bf16 on
    AMD's, neonbf16) and on a GPU whose tensor cores multiply them, and ``int16`` on any other
    processor that has such products (avx512vnni). Anything else is fp32.
    """
    if settings.precision != "auto":
        return settings.precision
    if settings.engine not in ("auto", "native") or unavailable_reason("native", device):
        return "fp32"
    if device.type == "cuda":
        return "fp32" if cuda.bfloat16_reason(device) else "mixed"
    if extension.bfloat16_is_quicker():
        return "mixed"
    return "int16" if extension.multiplies_integers() else "fp32"


def choose_short_precision(settings: Settings, device: torch.device) -> str:
    """That of a short run: as ``choose_precision``, but that ``auto`` is never ``mixed``.

    Evaluations in bf16 pay in long runs alone.
    """
    chosen = choose_precision(settings, device)
    if settings.precision != "auto" or chosen != "mixed":
        return chosen
    return finer_precision(settings.engine, device)


def arithmetic(settings: Settings, device: torch.device) -> str:
    """The precision that a run has here, and the one that a ``mixed`` run ends with."""
    chosen = choose_precision(settings, device)
    if chosen == "mixed":
        return f"mixed, then {finer_precision(settings.engine, device)}"
    return chosen


def finer_precision(engine: str, device: torch.device) -> str:
    """The precision that a ``mixed`` run of an engine, or of ``auto``, ends with on a device.

    It is ``int16`` where engine native runs on a CPU that has its products, else ``fp32``.
    """
    if device.type != "cpu" or engine not in ("auto", "native") or not extension.is_available():
        return "fp32"
    return "int16" if extension.multiplies_integers() else "fp32"


def spacing(settings: Settings, layers: Sequence[str], choice: Choice) -> Spacing:
    """What the cuts of a picture must keep to, for strips that are exact.

    Args:
        settings: ``tv_weight`` is read.
        layers: The layers from the first to the deepest in use.
        choice: What will run.
    """
    tiles: tuple[int, ...] = (1,)
    if choice.engine == "native" and choice.device.type == "cpu":
        precisions = {choice.precision}
        if choice.precision == "mixed":  # fp32 has products of bf16 on the way back
            precisions = {"bf16", finer_precision(choice.engine, choice.device)}
        tiles = tuple(sorted({TILES[precision] for precision in precisions}))
    return Spacing.of(layers, tiles, further=1 if settings.tv_weight else 0)


@undisturbed()
def create_engine(
    weights: Weights,
    content: Tensor,
    style: Tensor | Sequence[Tensor],
    settings: Settings,
    regions: Sequence[Region] | None = None,
    cache: Cache | None = None,
    grid: Grid | None = None,
    store: Store | None = None,
    keep: bool = True,
    temporal: tuple[float, TemporalLoss] | None = None,
    communication: Communication | None = None,
    keep_features: bool = False,
    device: torch.device | None = None,
) -> Engine:
    """Set up the engine that the settings ask for.

    Args:
        weights: What ``load_weights`` returns.
        content: ``(1, 3, H, W)``, RGB in [0, 1], on the device where the engine is to run; on the
            CPU if it is cut.
        style: ``(1, 3, h, w)``, RGB in [0, 1], on the same device; or several.
        settings: ``engine`` is ``torch``, ``native``, ``onnx`` or ``auto``: native where it runs.
            ``precision`` ``auto`` is fp32 here: an engine with one precision is a function of the
            picture. ``mixed`` is not: what it computes with depends on the evaluations before.
        regions: Which style goes where; None: all of them everywhere.
        cache: The networks and targets of earlier engines, to be used again where they fit.
        grid: How the picture is cut where it does not fit in memory whole, with the spacing that
            ``spacing`` gives; None: it is computed whole.
        store: Where the gradient and the content targets of a picture lie that is cut; None: in
            memory.
        keep: Whether to keep those targets. If not they are computed anew for each piece, which
            ``recomputes`` must allow; it changes no bit.
        temporal: γ and the temporal term of a frame of a film; None: there is none.
        communication: How this process speaks to those that compute the other bands of the
            picture, which are given whole nevertheless; None: there are none.
        keep_features: Whether to keep those of all pieces in an evaluation, where ``keep`` is true;
            it changes no bit.
        device: Where the pieces of a picture are computed that is cut; None: where it lies.

    Raises:
        BackendUnavailable: if the engine that was asked for by name cannot run here.
        InvalidInput: for settings or pictures that do not fit together, or a picture on a GPU that
            is cut.
    """
    device = device or content.device
    name = _choose_engine(settings.engine, device)
    if name == "onnx":  # asked before the targets are computed: a missing package is said at once
        _choose_provider(settings, device)
    way = _WAYS[name, "CPU" if device.type == "cpu" else "GPU"]
    cut = grid is not None and not grid.is_whole
    pixels = TARGETS_AT_A_TIME if grid is None else targets_at_a_time(grid)
    settled = replace(settings, precision="fp32") if settings.precision == "auto" else settings
    own = cut and recomputes(settled, device)
    if cut and content.device.type != "cpu":
        raise InvalidInput(
            f"a picture in pieces lies in main memory, and this one on {content.device}: "
            f"give it on the CPU, and device={content.device} beside it"
        )
    if regions is not None:
        regions = [region.to(device) for region in regions]
    objective = build_objective(
        *(weights, content, style, settings, way.backend, regions, cache, pixels),
        targets=not cut,
        temporal=temporal,
        device=device,
        communication=communication,
    )
    targets = None
    if own:
        targets = chosen(content, keep, store)
    elif grid is not None and cut and objective.content:
        share = Share.of(grid, communication or Alone())
        features = content_features(
            *(objective.network, objective.normalize, content, objective.content, pixels),
            (share.start, share.stop),
        )
        targets = given(features)
    height, width = content.shape[-2:]
    return engine_of(
        *(objective, (height, width), settings, cache, grid, targets, store, communication),
        keep_features=keep_features,
    )


def targets_at_a_time(grid: Grid) -> int:
    """Pixels of a style picture that are computed together, where the result is cut like this.

    It does not depend on the number of ranks, so that the targets do not either.
    """
    if grid.is_whole:
        return TARGETS_AT_A_TIME
    if grid.exchanges:  # about as many as one of a few ranks has
        return min(TARGETS_AT_A_TIME, max(FEWEST_AT_A_TIME, grid.height * grid.width // 4))
    # PyTorch, which computes the targets, takes up to twice as much for a pixel as the plan.
    return min(TARGETS_AT_A_TIME, grid.largest[0] * grid.largest[1] // 2)


def recomputes(settings: Settings, device: torch.device) -> bool:
    """Whether an engine in strips computes the content targets itself, in its own precision.

    It does in fp32: targets are in float32, as those of a picture that is computed whole.
    """
    return choose_precision(settings, device) == "fp32"


@undisturbed()
def engine_of(
    objective: Objective,
    size: tuple[int, int],
    settings: Settings,
    cache: Cache | None = None,
    grid: Grid | None = None,
    targets: MakeTargets | None = None,
    store: Store | None = None,
    communication: Communication | None = None,
    keep_features: bool = False,
) -> Engine:
    """Set up the engine of an objective, which may have losses of your own.

    A loss that an engine knows is computed as fast as it can; that of any other ``LayerLoss`` is
    differentiated by autograd on the features of its layer alone. Engine ``onnx`` takes known
    losses only.

    Args:
        objective: What ``build_objective`` returns, on the device where the engine is to run.
        size: ``(H, W)`` of the pictures.
        settings: ``engine``, ``provider`` and ``precision`` are read from here, as by
            ``create_engine``.
        cache: What earlier engines made, to be used again where it fits.
        grid: How the picture is cut, as for ``create_engine``; None: not at all.
        targets: Makes the content targets where the picture is cut; None: the objective's own.
        store: Where the gradient lies then; None: in memory.
        communication: How this process speaks then to those that compute the other bands; None:
            there are none.
        keep_features: As for ``create_engine``.

    Raises:
        BackendUnavailable: if the engine that was asked for by name cannot run here.
        InvalidInput: for a loss that is no ``LayerLoss``.
    """
    for layer, loss in (*objective.content.items(), *objective.style.items()):
        if not isinstance(loss, LayerLoss):
            raise InvalidInput(
                f"the loss on {layer} is a {type(loss).__name__}: expected a fastnst.LayerLoss"
            )
    device = objective.normalize.mean.device
    name = _choose_engine(settings.engine, device)
    way = _WAYS[name, "CPU" if device.type == "cpu" else "GPU"]
    cut = grid is not None and not grid.is_whole
    if cut and way.evaluator is None:
        raise InvalidInput(f"engine {name} on a {device.type} computes no strips")
    if cut and grid is not None and grid.exchanges and way.exchanging is None:
        raise InvalidInput(f"engine {name} on a {device.type} exchanges no rows of features")
    precision = "fp32" if settings.precision == "auto" else settings.precision
    if not objective.layers and name != "onnx":  # the total variation alone: nothing to plan
        return TorchEngine(objective, "fp32", name)
    if reason := way.unavailable_reason(objective, precision):
        raise BackendUnavailable(f"engine {name} cannot run: {reason}")

    request = _Request(size, settings.provider, cache, precision == "mixed")

    def create(precision: str) -> Engine:
        if cut and grid is not None and grid.exchanges and way.exchanging is not None:
            exchanging = way.exchanging(objective, precision, request, communication)
            return ExchangeEngine(exchanging, grid, targets, store, communication)
        if cut and grid is not None and way.evaluator is not None:
            evaluator = way.evaluator(objective, precision, request)
            if device.type != "cpu":  # a picture in pieces lies in main memory
                evaluator = OnDevice(evaluator)
            return StripEngine(evaluator, grid, targets, store, communication, keep_features)
        return way.create(objective, precision, request)

    if precision == "mixed":
        return MixedEngine(create, finer_precision(name, device))
    return create(precision)


def _choose_engine(name: str, device: torch.device) -> str:
    """``auto`` resolved; raises BackendUnavailable if engine native is asked for and cannot run."""
    reason = unavailable_reason("native", device)
    if name == "native" and reason:
        raise BackendUnavailable(f"engine native cannot run: {reason}")
    if name == "auto":
        return "torch" if reason else "native"
    return name


def _choose_provider(settings: Settings, device: torch.device) -> tuple[str, str]:
    """Provider and precision of engine onnx; raises BackendUnavailable if there is none."""
    if settings.precision == "mixed":
        raise BackendUnavailable("engine onnx does not change its precision: choose fp32 or bf16")
    return providers.choose(settings.provider, device, settings.precision)


def gpu_plan(objective: Objective) -> type[PlannedEngine]:
    """The plan of engine ``native`` on a GPU: with our kernels where they run the objective."""
    mean = objective.normalize.mean
    runs = mean.dtype == torch.float32 and device_kernels.unavailable_reason(mean.device) is None
    return KernelEngine if runs else PlannedEngine


# ------------------------------------------------------------------------- the table of engines --


@dataclass(frozen=True)
class _Request:
    """What an engine is made for, beside its objective.

    Attributes:
        size: ``(H, W)`` of the pictures.
        provider: What is to run the graph of engine ``onnx``.
        cache: What earlier engines made, to be used again.
        mixed: Whether it is part of a ``mixed`` run.
    """

    size: tuple[int, int]
    provider: str
    cache: Cache | None
    mixed: bool

    def back(self, precision: str) -> str | None:
        """What multiplies on the way back of a plan on a CPU; None: the same as forward."""
        return "bf16" if self.mixed and precision == "fp32" else None


@dataclass(frozen=True)
class _Way:
    """How an engine is made on a kind of device.

    Attributes:
        backend: What computes the style losses that the engine leaves to their modules.
        unavailable_reason: Why it cannot run an objective in a precision, or None if it can.
        create: Makes the engine of an objective and a precision.
        evaluator: Makes what computes the pieces of a picture; None: nothing does.
        exchanging: Makes what computes a piece with rows of features from its neighbours; None:
            nothing does.
    """

    backend: str
    unavailable_reason: Callable[[Objective, str], str | None]
    create: Callable[[Objective, str, _Request], Engine]
    evaluator: Callable[[Objective, str, _Request], Evaluator] | None = None
    exchanging: (
        Callable[[Objective, str, _Request, Communication | None], ExchangingEvaluator] | None
    ) = None


def _torch(objective: Objective, precision: str, _: _Request) -> Engine:
    return TorchEngine(objective, precision)


def _cpu_plan(objective: Objective, precision: str, request: _Request) -> Engine:
    back = request.back(precision)
    return NativeEngine(objective, precision, cache=request.cache, back=back)


def _torch_pieces(objective: Objective, precision: str, _: _Request) -> Evaluator:
    return AutogradEvaluator(objective, precision)


def _cpu_pieces(objective: Objective, precision: str, request: _Request) -> Evaluator:
    back = request.back(precision)
    return NativeEvaluator(objective, precision, cache=request.cache, back=back)


def _cpu_exchanging(
    objective: Objective, precision: str, request: _Request, communication: Communication | None
) -> ExchangingEvaluator:
    return ExchangingEvaluator(
        objective, precision, "native", request.cache, request.back(precision), communication
    )


def _cpu_reason(objective: Objective, precision: str) -> str | None:
    return cpu.unavailable_reason(objective, precision)


def _gpu_plan(objective: Objective, precision: str, request: _Request) -> Engine:
    return gpu_plan(objective)(objective, precision, cache=request.cache)


def _gpu_pieces(objective: Objective, precision: str, request: _Request) -> Evaluator:
    pieces = KernelEvaluator if gpu_plan(objective) is KernelEngine else PlannedEvaluator
    return pieces(objective, precision, cache=request.cache)


def _gpu_reason(objective: Objective, precision: str) -> str | None:
    if precision == "int16":
        return _NO_INTEGERS
    return cuda.unavailable_reason(objective, "bf16" if precision == "mixed" else precision)


def _onnx(objective: Objective, precision: str, request: _Request) -> Engine:
    return OnnxEngine(objective, request.size, request.provider, precision)


def _onnx_reason(objective: Objective, _: str) -> str | None:
    from fastnst import onnx_graph  # needs the package onnx

    reason = onnx_graph.unavailable_reason(objective)
    return reason and f"its graph does not hold this objective: {reason}"


_NO_INTEGERS = "products of int16 are for engine native on a CPU"


def _torch_reason(_: Objective, precision: str) -> str | None:
    return _NO_INTEGERS if precision == "int16" else None


_TORCH = _Way("torch", _torch_reason, _torch, _torch_pieces)
_ONNX = _Way("torch", _onnx_reason, _onnx)
_WAYS = {
    ("torch", "CPU"): _TORCH,
    ("torch", "GPU"): _TORCH,
    ("native", "CPU"): _Way("native", _cpu_reason, _cpu_plan, _cpu_pieces, _cpu_exchanging),
    ("native", "GPU"): _Way("torch", _gpu_reason, _gpu_plan, _gpu_pieces),
    ("onnx", "CPU"): _ONNX,
    ("onnx", "GPU"): _ONNX,
}
