"""The machine and the software that the figures belong to."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch

import fastnst
from benchmarks.measure import interleave
from benchmarks.options import Options
from fastnst.info import info
from fastnst.ops import extension


def describe(options: Options) -> dict[str, Any]:
    """What a reader needs to judge the figures, as plain values."""
    return {
        "machine": machine_name(options.device),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": options.threads,
        "memory_bytes": _memory(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "gpu": _gpu() if options.device == "cuda" else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_cuda": torch.version.cuda,
        "tf32": {
            "convolutions": torch.backends.cudnn.allow_tf32,
            "matmul": torch.backends.cuda.matmul.allow_tf32,
        },
        "fastnst": fastnst.__version__,
        "onnx": info()["onnx"]["packages"],
        "native": extension.build_info() if extension.is_available() else None,
        "native_reason": extension.unavailable_reason(),
        "instruction_sets": extension.available_isas() if extension.is_available() else [],
        "instruction_set": extension.selected_isa() if extension.is_available() else None,
        "quick": options.quick,
        "date": time.strftime("%Y-%m-%d"),
    }


@cache
def ceilings(device: str, quick: bool) -> dict[str, Any]:
    """What torch reaches here: a large matrix product in flop/s, a large copy in byte/s."""
    side = 8192 if device == "cuda" else 1024 if quick else 2048
    count = (64 if quick else 256) * 2**20
    source = torch.zeros(count // 4, device=device)
    target = torch.zeros_like(source)
    arms: dict[str, Any] = {"copy": lambda: target.copy_(source)}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.rand(side, side, device=device).to(dtype)
        arms[name] = lambda a=a: a @ a
    if device == "cuda":
        wide = torch.rand(side, side, device=device)
        arms["tf32"] = lambda: _in_tf32(lambda: wide @ wide)
    samples = interleave(arms, device=device, rounds=20, budget=3.0, warm_up=2)
    rates: dict[str, Any] = {"gemm_side": side, "copy_bytes": count}
    for name in arms.keys() - {"copy"}:
        rates[f"gemm_{name}_flops"] = 2 * side**3 / median(samples[name].seconds)
    rates["copy_bytes_per_second"] = 2 * count / median(samples["copy"].seconds)
    return rates


def _in_tf32(work: Callable[[], object]) -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        work()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def machine_name(device: str) -> str:
    """The GPU, or the CPU with its number of cores."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{cpu_name()}, {os.cpu_count()} cores"


def slug(name: str) -> str:
    """A name as a file name: ``amd-epyc-2-cores``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def cpu_name() -> str:
    """The name in /proc/cpuinfo, without trademark signs and clock rate."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = match[1] if match else platform.processor() or platform.machine()
    name = re.sub(r"\((R|TM)\)", "", name, flags=re.IGNORECASE)
    return " ".join(re.sub(r"@.*", "", name).split())


def _gpu() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
