"""Tensors as the kernels take them: checks, strides and addresses."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.ops.extension import _C, DTYPES, _reason, build_info


def cannot_run(features: Tensor) -> str | None:
    """Why the kernels cannot take these features, or None when they can."""
    if _C is None:
        return _reason
    if features.device.type not in ("cpu", "cuda"):
        return f"no native kernel for device {features.device.type!r}"
    if features.dtype not in DTYPES:
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


def position_stride(x: Tensor) -> int | None:
    """The one stride that walks over all positions h·W + w of x (B, C, H, W), if there is one."""
    height, width = x.shape[2:]
    if height == 1 or x.stride(2) == width * x.stride(3):
        return x.stride(3)
    return x.stride(2) if width == 1 else None


def addressable(x: Tensor) -> Tensor:
    """X itself, or its one copy when its positions cannot be walked with one stride."""
    return x if position_stride(x) is not None else x.contiguous()


def strides(x: Tensor) -> tuple[int, int, int]:
    walk = position_stride(x)
    assert walk is not None
    return x.stride(0), x.stride(1), walk


def describe_tensor(x: Tensor) -> tuple[int, int, int, int, int, int, int, int]:
    batch, channels, height, width = x.shape
    return (x.data_ptr(), DTYPES[x.dtype], batch, channels, height * width, *strides(x))


_CPU = torch.device("cpu")


def describe_device(device: torch.device) -> str:
    return "the CPU" if device.type == "cpu" else str(device)


def check_4d(name: str, x: Tensor, device: torch.device | None = None) -> None:
    """Features: on the given device, or on the CPU or any GPU."""
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
    device: torch.device = _CPU,
) -> None:
    """A buffer that the kernels read or write through a bare pointer."""
    if x.dtype != dtype or x.device != device:
        wanted = str(dtype).removeprefix("torch.")
        raise InvalidInput(
            f"{name}: expected {wanted} on {describe_device(device)}, got {x.dtype} on {x.device}"
        )
    if tuple(x.shape) != shape:
        raise InvalidInput(f"{name}: expected shape {shape}, got {tuple(x.shape)}")
    if not x.is_contiguous():
        raise InvalidInput(f"{name}: expected a contiguous tensor, got strides {x.stride()}")
