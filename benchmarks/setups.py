"""The same pictures, weights and objective for the reference and for fastnst."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.reference import VGG19, Reference, white_noise
from fastnst import Pictures, Settings, load_pictures, load_weights, samples, stylize
from fastnst.engines.create import finer_precision
from fastnst.engines.onnx import providers
from fastnst.settings.settings import CHOICES

__all__ = [
    "Way",
    "chosen_engine",
    "engines",
    "pictures",
    "reference",
    "save_samples",
    "score",
    "weights",
    "white_noise",
]


@lru_cache(maxsize=8)  # built-in pictures are drawn, which takes longer than many a measurement
def pictures(content: str, style: str, size: int, settings: Settings | None = None) -> Pictures:
    """A content and a style picture (paths or ``sample:NAME``), scaled, and the start of a run."""
    return load_pictures(content, style, settings or Settings(), size)


def save_samples(names: Iterable[str], folder: Path) -> list[str]:
    """Draw built-in pictures once, for all processes that want them; the paths of the files."""
    paths = [folder / f"{name.removeprefix('sample:')}.png" for name in names]
    for path in paths:
        samples.load(path.stem).save(path)
    return [str(path) for path in paths]


weights = cache(load_weights)  # decoded once a process


def reference(content: Tensor, style: Tensor, settings: Settings | None = None) -> Reference:
    """The textbook loop for the objective of the settings, on the pictures' device."""
    settings = settings or Settings()
    if settings.pooling != "average" or settings.tv_weight:
        raise ValueError("the textbook loop knows average pooling and no total variation")
    loaded = weights(settings.weights, settings.preprocessing)
    names = (*settings.content_layers, *settings.style_layers)
    mean, std = loaded.preprocessing.mean, loaded.preprocessing.std
    return Reference(
        VGG19(loaded.tensors, mean, std, names).to(content.device),
        content,
        style,
        content_layers=settings.content_layers,
        layer_weights=settings.layer_weights(),
        content_weight=settings.content_weight,
        style_weight=settings.style_weight,
    )


def score(objective: Reference, image: Tensor) -> float:
    """The reference objective of a picture in strict float32 (no TF32), as it stands."""
    strict = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.no_grad(), strict:
        return float(objective.loss(image))


@dataclass(frozen=True)
class Way:
    """A way of computing the objective that fastnst offers; whether it runs here is another matter.

    Attributes:
        engine: The setting ``engine``.
        precision: The setting ``precision``.
        provider: The setting ``provider``; ``auto`` for all engines but ``onnx``.
    """

    engine: str
    precision: str
    provider: str = "auto"

    @property
    def name(self) -> str:
        """The name in the tables: ``native fp32``, ``onnx openvino bf16``."""
        provider = () if self.provider == "auto" else (self.provider,)
        return " ".join((self.engine, *provider, self.precision))

    @property
    def settings(self) -> dict[str, Any]:
        """What to replace in ``Settings``."""
        return asdict(self)


def engines(device: str, mixed: bool = False) -> Iterator[Way]:
    """Every engine, provider and precision for a device, also those that cannot run here.

    Precision ``int16`` is engine native's on a CPU, and nothing else's anywhere.
    Precision ``mixed`` is left out unless ``mixed`` is true: it belongs to a run.
    """
    for engine in CHOICES["engine"]:
        for precision in CHOICES["precision"]:
            if engine == "onnx" or "auto" in (engine, precision):
                continue
            if precision == "int16" and (engine, device) != ("native", "cpu"):
                continue
            if precision != "mixed" or mixed:
                yield Way(engine, precision)
    for provider, precisions in providers.PRECISIONS.items():
        if (provider in ("cuda", "tensorrt")) == (device == "cuda"):
            yield from (Way("onnx", precision, provider) for precision in precisions)


def evaluating(device: str) -> Iterator[Way]:
    """Those of ``engines`` that are functions of the picture, and what a mixed run ends with.

    That is another function only where engine ``native`` runs on a CPU and ends in float32: its way
    back stays in bfloat16.
    """
    yield from engines(device)
    if device == "cpu" and finer_precision("native", torch.device("cpu")) == "fp32":
        yield Way("native", "mixed")


@cache
def chosen_engine(device: str) -> tuple[str, str]:
    """The engine and precision that fastnst takes when none is named, asked of a tiny run."""
    grey = np.full((32, 32, 3), 0.5, np.float32)
    result = stylize(grey, grey, size=32, iterations=0, device=device)
    return result.engine, result.precision
