"""What was built, what was found, what will be chosen, and why not the rest."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any

import torch

from fastnst import devices
from fastnst._version import __version__
from fastnst.devices import DEFAULT_SIZE
from fastnst.engines.create import choose, unavailable_reason
from fastnst.engines.onnx import providers
from fastnst.errors import FastNSTError
from fastnst.network.weights import load_weights
from fastnst.ops import extension
from fastnst.settings.settings import Settings


def info() -> dict[str, Any]:
    """A report of this installation as plain values, for ``fastnst info`` and for bug reports.

    Returns:
        ``versions``, ``native`` (the compiled extension: how it was built, the instruction sets, or
        why it is missing), ``cuda`` (what torch and the extension see), ``engines`` (for each:
        None, or why it cannot run), ``onnx`` (versions of its packages, and for each provider None
        or why it cannot run), ``weights`` (for each: its SHA-256, or why it is missing) and
        ``chosen`` (what a run takes here whose settings leave it open).
    """
    chosen = choose(Settings())
    device = chosen.device
    engines = {name: unavailable_reason(name, device) for name in ("torch", "native", "onnx")}
    return {
        "versions": {
            "fastnst": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "native": {
            "available": extension.is_available(),
            "reason": extension.unavailable_reason(),
            "build": extension.build_info() if extension.is_available() else None,
            "instruction_sets": extension.available_isas() if extension.is_available() else [],
            "instruction_set": _or_error(extension.selected_isa)
            if extension.is_available()
            else None,
        },
        "cuda": {
            "torch": devices.unavailable_reason(torch.device("cuda"))
            or [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            "extension": extension.cuda_devices() if extension.is_available() else None,
        },
        "threads": torch.get_num_threads(),
        "engines": engines,
        "onnx": _onnx(device),
        "weights": {
            "vgg19": _or_error(lambda: load_weights("vgg19").sha256),
            "torchvision": "installed, downloads on first use"
            if importlib.util.find_spec("torchvision")
            else "torchvision is not installed",
        },
        "chosen": {
            "device": str(chosen.device),
            "engine": chosen.engine,
            "precision": chosen.precision,
            "size": DEFAULT_SIZE[device.type],
        },
    }


def _onnx(device: torch.device) -> dict[str, Any]:
    packages: dict[str, str | None] = {}
    for name in ("onnx", "onnxruntime", "onnxruntime-gpu", "openvino"):
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    found = {name: providers.unavailable_reason(name, device) for name in providers.PROVIDERS}
    return {"packages": packages, "providers": found}


def _or_error(function: Callable[[], str]) -> str:
    try:
        return function()
    except FastNSTError as error:
        return str(error)
