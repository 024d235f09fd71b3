"""The compiled kernels: loads ``fastnst._C``, allocates, registers the operators, passes pointers.

The only module that touches the extension. Without it (not built, or ``FASTNST_NO_NATIVE=1``)
everything here still imports: ``is_available()`` is False and ``unavailable_reason()`` says why.

Operators (autograd lives outside, in ``functional``), features always (B, C, H, W):

* ``fastnst::gram_matrix(features) -> (B, C, C)``
* ``fastnst::style_losses(features[], targets[]) -> losses (L,), differences (B, C, C)[]``
* ``fastnst::gram_gradients(features[], weights[], scales (L,)) -> scale · (W + Wᵀ)/2 · F``

Tensors lie on the CPU or, in a build with CUDA, all on one GPU: there the work is queued on torch's
current stream, and nothing waits for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Before the extension: it then shares torch's OpenMP runtime (same name, libgomp.so.1) instead of
# loading a second one.
import torch
from torch import Tensor

from fastnst.errors import BackendUnavailable, InvalidInput

if TYPE_CHECKING:
    from types import ModuleType

_C: ModuleType | None = None
_reason: str | None = None
if os.environ.get("FASTNST_NO_NATIVE", "0") not in ("", "0"):
    _reason = "FASTNST_NO_NATIVE is set"
else:
    try:
        _C = import_module("fastnst._C")
    except ModuleNotFoundError:
        _reason = "this installation of fastnst has no compiled extension"
    except ImportError as error:
        _reason = f"the compiled extension cannot be loaded: {error}"

_DTYPES = {torch.float32: 0, torch.bfloat16: 1}

# The coarsest that a factor of a product may be rounded to on a GPU.
PRECISIONS = {"fp32": 0, "tf32": 1, "bf16": 2}


def is_available() -> bool:
    """Whether the compiled extension is loaded."""
    return _C is not None


def unavailable_reason() -> str | None:
    """Why the extension is not loaded, or None when it is."""
    return _reason


def _extension() -> Any:
    if _C is None:
        raise BackendUnavailable(f"native backend: {_reason}")
    return _C


def _call(function: Any, *arguments: Any) -> Any:
    """Calls into the extension; its errors become fastnst's."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    except RuntimeError as error:
        raise BackendUnavailable(str(error)) from None


def build_info() -> dict[str, Any]:
    """How the extension was built: compiler, instruction sets, threads, CUDA toolkit.

    Raises:
        BackendUnavailable: without the extension.
    """
    info: dict[str, Any] = _extension().build_info()
    return info


def available_isas() -> list[str]:
    """Instruction sets that this build holds and this machine runs, worst first."""
    isas: list[str] = _extension().available_isas()
    return isas


def selected_isa() -> str:
    """The instruction set in use: the best available, capped by ``FASTNST_CPU_ISA``.

    Raises:
        InvalidInput: ``FASTNST_CPU_ISA`` is no instruction set.
        BackendUnavailable: it cannot run here, or there is no extension.
    """
    isa: str = _call(_extension().selected_isa)
    return isa


def convolves_bfloat16() -> bool:
    """Whether the instruction set in use can convolve features in bfloat16.

    Raises:
        InvalidInput: ``FASTNST_CPU_ISA`` is no instruction set.
        BackendUnavailable: it cannot run here, or there is no extension.
    """
    answer: bool = _call(_extension().convolves_bfloat16)
    return answer


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Forces one instruction set for the whole process while the context lasts; for tests."""
    _call(_extension().force_isa, name)
    try:
        yield
    finally:
        _extension().force_isa("")


def cuda_devices() -> dict[str, Any]:
    """``{"devices": [{"name", "capability", "memory"}], "reason": why none, or ""}``."""
    devices: dict[str, Any] = _extension().cuda_devices()
    return devices


def cannot_run(features: Tensor) -> str | None:
    """Why the kernels cannot take these features, or None when they can."""
    if _C is None:
        return _reason
    if features.device.type not in ("cpu", "cuda"):
        return f"no native kernel for device {features.device.type!r}"
    if features.dtype not in _DTYPES:
        return f"expected float32 or bfloat16 features, got {features.dtype}"
    if features.device.type == "cuda":
        return _cannot_run_on(torch.cuda.get_device_capability(features.device))
    return None


@cache
def _cannot_run_on(capability: tuple[int, int]) -> str | None:
    """Why a GPU of this compute capability cannot run the kernels, or None when it can."""
    info = build_info()
    if not info["cuda"]:
        return "fastnst was built without CUDA"
    architectures = info["cuda_architectures"]
    if any(_covers(name, capability) for name in architectures.split()):
        return None
    major, minor = capability
    return (
        f"no native kernel for compute capability {major}.{minor}: "
        f"fastnst was built for {architectures}"
    )


def _covers(architecture: str, capability: tuple[int, int]) -> bool:
    """Whether code for one of CMake's architectures (75, 90-real, 120-virtual, native) runs there.

    Machine code runs on its major version from its minor on, PTX on all that is not older.
    """
    number, _, form = architecture.partition("-")
    if not number.isdigit():
        return True  # native, all: the driver decides
    built = divmod(int(number), 10)
    real = form != "virtual" and built[0] == capability[0] and built[1] <= capability[1]
    return real or (form != "real" and built <= capability)


# ------------------------------------------------------------------------------------- pointers --


def _position_stride(x: Tensor) -> int | None:
    """The one stride that walks over all positions h·W + w of x (B, C, H, W), if there is one."""
    height, width = x.shape[2:]
    if height == 1 or x.stride(2) == width * x.stride(3):
        return x.stride(3)
    return x.stride(2) if width == 1 else None


def _addressable(x: Tensor) -> Tensor:
    """X itself, or its one copy when its positions cannot be walked with one stride."""
    return x if _position_stride(x) is not None else x.contiguous()


def _strides(x: Tensor) -> tuple[int, int, int]:
    position_stride = _position_stride(x)
    assert position_stride is not None
    return x.stride(0), x.stride(1), position_stride


def _describe(x: Tensor) -> tuple[int, int, int, int, int, int, int, int]:
    batch, channels, height, width = x.shape
    return (x.data_ptr(), _DTYPES[x.dtype], batch, channels, height * width, *_strides(x))


_CPU = torch.device("cpu")


def _on(device: torch.device) -> str:
    return "the CPU" if device.type == "cpu" else str(device)


def _check_4d(name: str, x: Tensor, device: torch.device | None = None) -> None:
    """Features: on the given device, or on the CPU or any GPU."""
    if x.ndim != 4:
        raise InvalidInput(f"{name}: expected shape (B, C, H, W), got {tuple(x.shape)}")
    elsewhere = x.device.type not in ("cpu", "cuda") or device not in (None, x.device)
    if elsewhere or x.dtype not in _DTYPES:
        where = "the CPU or a GPU" if device is None else _on(device)
        raise InvalidInput(
            f"{name}: expected float32 or bfloat16 on {where}, got {x.dtype} on {x.device}"
        )


def _check_buffer(
    name: str,
    x: Tensor,
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    device: torch.device = _CPU,
) -> None:
    """A buffer that the kernels read or write through a bare pointer."""
    if x.dtype != dtype or x.device != device:
        wanted = str(dtype).removeprefix("torch.")
        raise InvalidInput(
            f"{name}: expected {wanted} on {_on(device)}, got {x.dtype} on {x.device}"
        )
    if tuple(x.shape) != shape:
        raise InvalidInput(f"{name}: expected shape {shape}, got {tuple(x.shape)}")
    if not x.is_contiguous():
        raise InvalidInput(f"{name}: expected a contiguous tensor, got strides {x.stride()}")


# ----------------------------------------------------------------------------------------- calls --


def _precision(features: Sequence[Tensor], asked: str | None) -> int:
    """The arithmetic on a GPU: as asked, or what the features and torch's settings say."""
    if asked is None:
        if any(x.dtype == torch.bfloat16 for x in features):
            asked = "bf16"
        else:
            asked = "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "fp32"
    if asked not in PRECISIONS:
        raise InvalidInput(f"precision: expected one of {', '.join(PRECISIONS)}, got {asked!r}")
    return PRECISIONS[asked]


def _gram(
    layers: list[Any], features: Sequence[Tensor], precision: str | None, device: torch.device
) -> None:
    extension = _extension()
    rounding = _precision(features, precision)
    if device.type == "cpu":
        _call(extension.gram, layers, torch.get_num_threads())
    else:
        _queue(extension.cuda_gram_workspace, extension.cuda_gram, layers, rounding, device)


def _gram_gradient(
    layers: list[Any], features: Sequence[Tensor], precision: str | None, device: torch.device
) -> None:
    extension = _extension()
    rounding = _precision(features, precision)
    if device.type == "cpu":
        _call(extension.gram_gradient, layers, torch.get_num_threads())
    else:
        sizes, function = extension.cuda_gram_gradient_workspace, extension.cuda_gram_gradient
        _queue(sizes, function, layers, rounding, device)


def _queue(
    workspace_bytes: Any, function: Any, layers: list[Any], precision: int, device: torch.device
) -> None:
    """Queues the work on the current stream, with a workspace of torch's.

    It may be freed at once: torch hands it out again to later work of the same stream only.
    """
    size = _call(workspace_bytes, layers)
    with torch.cuda.device(device):
        workspace = torch.empty(size, dtype=torch.uint8, device=device)
        stream = torch.cuda.current_stream(device).cuda_stream
        _call(function, layers, precision, workspace.data_ptr(), size, device.index, stream)


# ------------------------------------------------------------------------------ without autograd --


def style_losses_into(
    features: Sequence[Tensor],
    target_grams: Sequence[Tensor],
    *,
    losses: Tensor,
    differences: Sequence[Tensor] | None = None,
    grams: Sequence[Tensor] | None = None,
    precision: str | None = None,
) -> None:
    """G, D = G − A and the mean of D² of every layer, into given buffers, in one native call.

    Args:
        features: per layer (B, C, H, W), float32 or bfloat16, any layout, all on one device.
        target_grams: per layer A, (C, C) or (B, C, C), float32, contiguous.
        losses: (L,) float32, written.
        differences: per layer (B, C, C) float32, written; what the gradient wants.
        grams: per layer (B, C, C) float32, written.
        precision: on a GPU, the coarsest that a feature may be rounded to before it is multiplied:
            "fp32", "tf32" or "bf16". None: no rounding for bfloat16 features, and for float32 what
            ``torch.backends.cuda.matmul.fp32_precision`` allows. Sums are float32 at least.

    Raises:
        InvalidInput: a shape, type, device or layout is not as described.
        BackendUnavailable: without the extension, or ``FASTNST_CPU_ISA`` or the GPU cannot run it.
    """
    _extension()
    count = len(features)
    for name, buffers in (
        ("target_grams", target_grams),
        ("differences", differences),
        ("grams", grams),
    ):
        if buffers is not None and len(buffers) != count:
            raise InvalidInput(f"{name}: expected {count} tensors, got {len(buffers)}")
    device = losses.device
    _check_buffer("losses", losses, (count,), device=device)
    layers, kept = [], []
    for index, (x, target) in enumerate(zip(features, target_grams, strict=True)):
        _check_4d("features", x, device)
        batch, channels = x.shape[:2]
        square = (channels, channels)
        stacked = (batch, *square) if target.ndim == 3 else square
        _check_buffer("target_grams", target, stacked, device=device)
        gram = difference = 0
        if differences is not None:
            _check_buffer("differences", differences[index], (batch, *square), device=device)
            difference = differences[index].data_ptr()
        if grams is not None:
            _check_buffer("grams", grams[index], (batch, *square), device=device)
            gram = grams[index].data_ptr()
        x = _addressable(x)
        kept.append(x)  # alive until the call returns
        target_stride = channels * channels if target.ndim == 3 else 0
        loss = losses.data_ptr() + index * losses.element_size()
        layers.append((_describe(x), gram, target.data_ptr(), target_stride, difference, loss))
    _gram(layers, features, precision, device)


def accumulate_style_gradient(
    features: Tensor,
    difference: Tensor,
    scale: float,
    relu_mask: bool,
    out_grad: Tensor,
    *,
    accumulate: bool = True,
    precision: str | None = None,
) -> None:
    """out += scale · mask(F > 0) · (D + Dᵀ)/2 · F, in one pass over F.

    With scale = 4 / (B·C²·N) this adds the gradient of the style loss. ``relu_mask`` applies the
    derivative of the ReLU whose output the features are.

    Args:
        features: F, (B, C, H, W), float32 or bfloat16.
        difference: D = G − A, (B, C, C), float32, contiguous.
        scale: factor of the added term.
        relu_mask: whether to leave the gradient zero where F ≤ 0.
        out_grad: same shape as features, float32 or bfloat16; its positions must be walked with one
            stride, as those of contiguous and channels_last tensors are.
        accumulate: False overwrites ``out_grad`` instead of adding to it.
        precision: as for :func:`style_losses_into`; D is rounded too.

    Raises:
        InvalidInput: a shape, type, device or layout is not as described.
        BackendUnavailable: without the extension, or ``FASTNST_CPU_ISA`` or the GPU cannot run it.
    """
    _extension()
    _check_4d("features", features)
    device = features.device
    _check_4d("out_grad", out_grad, device)
    batch, channels = features.shape[:2]
    _check_buffer("difference", difference, (batch, channels, channels), device=device)
    if out_grad.shape != features.shape:
        raise InvalidInput(
            f"out_grad: expected shape {tuple(features.shape)}, got {tuple(out_grad.shape)}"
        )
    if _position_stride(out_grad) is None:
        raise InvalidInput(
            f"out_grad: expected contiguous or channels_last, got strides {out_grad.stride()}"
        )
    x = _addressable(features)
    layer = _gradient_layer(x, difference, scale, relu_mask, accumulate, out_grad)
    _gram_gradient([layer], [x], precision, device)


def _gradient_layer(
    x: Tensor, difference: Tensor, scale: float, relu_mask: bool, accumulate: bool, out: Tensor
) -> tuple[Any, ...]:
    where = (out.data_ptr(), _DTYPES[out.dtype], _strides(out))
    return (_describe(x), difference.data_ptr(), scale, relu_mask, accumulate, *where)


# ------------------------------------------------------------------------------------ operators --

torch.library.define("fastnst::gram_matrix", "(Tensor features) -> Tensor")
torch.library.define(
    "fastnst::style_losses", "(Tensor[] features, Tensor[] targets) -> (Tensor, Tensor[])"
)
torch.library.define(
    "fastnst::gram_gradients", "(Tensor[] features, Tensor[] weights, Tensor scales) -> Tensor[]"
)


def _empty_gram(features: Tensor) -> Tensor:
    batch, channels = features.shape[:2]
    return features.new_empty((batch, channels, channels), dtype=torch.float32)


_DEVICES = ("CPU", "CUDA")


@torch.library.impl("fastnst::gram_matrix", _DEVICES)
def _gram_matrix(features: Tensor) -> Tensor:
    _check_4d("features", features)
    gram = _empty_gram(features)
    x = _addressable(features)
    layer = (_describe(x), gram.data_ptr(), 0, 0, 0, 0)
    _gram([layer], [x], None, x.device)
    return gram


@torch.library.impl("fastnst::style_losses", _DEVICES)
def _style_losses(features: list[Tensor], targets: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    losses = torch.empty(len(features), device=features[0].device)
    differences = [_empty_gram(x) for x in features]
    targets = [target.contiguous() for target in targets]
    style_losses_into(features, targets, losses=losses, differences=differences)
    return losses, differences


def _fake_style_losses(
    features: list[Tensor], targets: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    losses = features[0].new_empty((len(features),), dtype=torch.float32)
    return losses, [_empty_gram(x) for x in features]


@torch.library.impl("fastnst::gram_gradients", _DEVICES)
def _gram_gradients(features: list[Tensor], weights: list[Tensor], scales: Tensor) -> list[Tensor]:
    layers, kept, copies = [], [], []
    gradients = [torch.empty_like(x) for x in features]
    device = features[0].device
    if device.type == "cpu":
        factors = scales.tolist()
    else:  # their values stay where they are: nobody waits for the GPU
        weights = [weight * scale for weight, scale in zip(weights, scales, strict=True)]
        factors = [1.0] * len(weights)
    for x, weight, scale, gradient in zip(features, weights, factors, gradients, strict=True):
        _check_4d("features", x, device)
        weight = weight.contiguous()
        _check_buffer("weights", weight, (x.shape[0], x.shape[1], x.shape[1]), device=device)
        x = _addressable(x)
        out = gradient
        if _position_stride(gradient) is None:
            out = torch.empty_like(gradient, memory_format=torch.contiguous_format)
            copies.append((gradient, out))
        kept += [x, weight]
        layers.append(_gradient_layer(x, weight, scale, False, False, out))
    _gram_gradient(layers, features, None, device)
    for gradient, out in copies:
        gradient.copy_(out)
    return gradients


def _fake_gram_gradients(
    features: list[Tensor], weights: list[Tensor], scales: Tensor
) -> list[Tensor]:
    return [torch.empty_like(x) for x in features]


# Shapes and types alone, for torch.compile.
torch.library.register_fake("fastnst::gram_matrix", _empty_gram)
torch.library.register_fake("fastnst::style_losses", _fake_style_losses)
torch.library.register_fake("fastnst::gram_gradients", _fake_gram_gradients)
