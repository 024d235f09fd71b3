"""Tensors as the kernels take them: checks, strides and addresses."""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.ops import extension

# As the kernels number them: the dtypes of features, the poolings, and the coarsest that a factor
# of a product may be rounded to on a GPU.
DTYPES = {torch.float32: 0, torch.bfloat16: 1}
POOLINGS = {None: 0, "average": 1, "max": 2}
PRECISIONS = {"fp32": 0, "tf32": 1, "bf16": 2}
CPU = torch.device("cpu")

# address, dtype, batch, channels, positions, batch stride, channel stride, position stride
Description: TypeAlias = tuple[int, int, int, int, int, int, int, int]


def unavailable_reason(features: Tensor) -> str | None:
    """Why the kernels cannot take these features, or None when they can."""
    if not extension.is_available():
        return extension.unavailable_reason()
    if features.device.type not in ("cpu", "cuda"):
        return f"no native kernel for device {features.device.type!r}"
    if features.dtype not in DTYPES:
        return f"expected float32 or bfloat16 features, got {features.dtype}"
    if features.device.type == "cuda":
        return gpu_unavailable_reason(torch.cuda.get_device_capability(features.device))
    return None


@cache
def gpu_unavailable_reason(capability: tuple[int, int]) -> str | None:
    """Why a GPU of this compute capability cannot run the kernels, or None when it can.

    Raises:
        BackendUnavailable: the extension is not loaded.
    """
    info = extension.build_info()
    if not info["cuda"]:
        return "fastnst was built without CUDA"
    if reason := extension.cuda_devices()["reason"]:  # torch may bring an older CUDA, which runs
        return f"fastnst's CUDA {info['cuda']} does not run with this driver: {reason}"
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

    Machine code runs on GPUs of its major version that have at least its minor one, PTX on every
    GPU that is not older.
    """
    number, _, form = architecture.partition("-")
    if not number.isdigit():
        return True  # native, all: the driver decides
    built = divmod(int(number), 10)
    real = form != "virtual" and built[0] == capability[0] and built[1] <= capability[1]
    return real or (form != "real" and built <= capability)


# ----------------------------------------------------------------------- strides and addresses --


def position_stride(x: Tensor) -> int | None:
    """The one stride that walks over all positions h·W + w of x ``(B, C, H, W)``.

    Returns:
        The stride in elements, or None where no single stride does.
    """
    height, width = x.shape[2:]
    if height == 1 or x.stride(2) == width * x.stride(3):
        return x.stride(3)
    return x.stride(2) if width == 1 else None


def addressable(x: Tensor) -> Tensor:
    """The tensor itself, or a copy where its positions cannot be walked with one stride."""
    return x if position_stride(x) is not None else x.contiguous()


def strides(x: Tensor) -> tuple[int, int, int]:
    """The strides of an ``addressable`` x ``(B, C, H, W)`` over batch, channels and positions."""
    walk = position_stride(x)
    assert walk is not None
    return x.stride(0), x.stride(1), walk


def describe_tensor(x: Tensor) -> Description:
    """Where an ``addressable`` x ``(B, C, H, W)`` lies and how, as the extension takes it."""
    batch, channels, height, width = x.shape
    return (x.data_ptr(), DTYPES[x.dtype], batch, channels, height * width, *strides(x))


def address(x: Tensor | None) -> int:
    """The address of a tensor's first element; 0, a null pointer, for None."""
    return 0 if x is None else x.data_ptr()


# -------------------------------------------------------------------------------------- checks --


def describe_device(device: torch.device) -> str:
    """A device as messages name it."""
    return "the CPU" if device.type == "cpu" else str(device)


def check_features(name: str, x: Tensor, device: torch.device | None = None) -> None:
    """Check features ``(B, C, H, W)``.

    Args:
        name: What a message calls them.
        x: The features.
        device: Where they must lie; None: on the CPU or any GPU.

    Raises:
        InvalidInput: they have another rank, are neither float32 nor bfloat16, or lie elsewhere.
    """
    if x.ndim != 4:
        raise InvalidInput(f"{name}: expected shape (B, C, H, W), got {tuple(x.shape)}")
    elsewhere = x.device.type not in ("cpu", "cuda") or device not in (None, x.device)
    if elsewhere or x.dtype not in DTYPES:
        where = "the CPU or a GPU" if device is None else describe_device(device)
        raise InvalidInput(
            f"{name}: expected float32 or bfloat16 on {where}, got {x.dtype} on {x.device}"
        )


def check_buffer(
    name: str,
    x: Tensor,
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    device: torch.device = CPU,
) -> None:
    """Check a buffer that the kernels read or write through a bare pointer.

    Args:
        name: What a message calls it.
        x: The buffer.
        shape: The shape that it must have.
        dtype: The dtype that it must have.
        device: Where it must lie.

    Raises:
        InvalidInput: it is not so, or it is not contiguous.
    """
    if x.dtype != dtype or x.device != device:
        wanted = str(dtype).removeprefix("torch.")
        raise InvalidInput(
            f"{name}: expected {wanted} on {describe_device(device)}, got {x.dtype} on {x.device}"
        )
    if tuple(x.shape) != shape:
        raise InvalidInput(f"{name}: expected shape {shape}, got {tuple(x.shape)}")
    if not x.is_contiguous():
        raise InvalidInput(f"{name}: expected a contiguous tensor, got strides {x.stride()}")
