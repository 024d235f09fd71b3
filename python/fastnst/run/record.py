"""What the record of a run has beside losses and settings: scales, versions, memory."""

from __future__ import annotations

import contextlib
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch

from fastnst._version import __version__
from fastnst.evaluation import Engine


@dataclass(frozen=True)
class ScaleRecord:
    """What was done at one scale.

    Attributes:
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        iterations: Iterations done.
        evaluations: Evaluations of the objective.
    """

    width: int
    height: int
    iterations: int
    evaluations: int


@dataclass(frozen=True)
class EngineRecord:
    """What a result says of the engine, which itself goes with its scale.

    Attributes:
        name: As ``Engine`` has it, and so are the others.
        precision: Of features and products.
        provider: What runs the graph of engine ``onnx``.
        tf32: Whether products of float32 features are rounded to TF32.
    """

    name: str
    precision: str
    provider: str | None
    tf32: bool

    @classmethod
    def of(cls, engine: Engine) -> EngineRecord:
        """That of an engine."""
        return cls(engine.name, engine.precision, engine.provider, engine.tf32)


def versions() -> dict[str, str]:
    """Of what made a result."""
    return {
        "fastnst": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
    }


def peak_bytes(device: torch.device) -> int | None:
    """The most memory that this process has had so far; None where nothing says.

    Args:
        device: On a GPU it is what PyTorch has had there, elsewhere all resident memory.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, LookupError, ValueError):  # Linux
        status = Path("/proc/self/status").read_text("ascii")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage if sys.platform == "darwin" else usage * 1024
