"""Which device a run uses."""

from __future__ import annotations

import contextlib

import torch

from fastnst.errors import BackendUnavailable, InvalidInput

DEFAULT_SIZE = {"cpu": 256, "cuda": 512}  # long side in pixels


def choose_device(name: str) -> torch.device:
    """``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InvalidInput: for any other name.
        BackendUnavailable: if the GPU that was asked for is not there, with the reason.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InvalidInput(f"device is {name!r}: choose auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise InvalidInput(f"device is {name!r}: choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        reason = cuda_reason()
        if reason:
            raise BackendUnavailable(f"device {name} cannot be used: {reason}")
        count = torch.cuda.device_count()
        if device.index is not None and device.index >= count:
            raise BackendUnavailable(f"device {name} is not there: {count} GPU(s) were found")
    return device


def cuda_reason() -> str | None:
    """Why torch cannot use a GPU, or None if it can."""
    if torch.version.cuda is None:
        return "this torch was built without CUDA"
    if not torch.cuda.is_available():
        return "no GPU with a working driver was found"
    return None


def guard(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Makes a GPU the current one while the context lasts; on a CPU there is nothing to do."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
