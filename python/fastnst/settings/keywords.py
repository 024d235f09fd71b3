"""The settings as typed keyword arguments: ``stylize(content, style, **settings)``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypedDict


class SettingsDict(TypedDict, total=False):
    """Any of the attributes of ``Settings`` by its name, so that a type checker finds a typo.

    The types are those that ``Settings`` takes: any sequence for a list, and a path for a file.
    """

    size: int | None
    style_fit: str
    style_size: int | None
    style_scale: Sequence[float]
    iterations: int
    min_size: int | None
    scale_step: float
    scale_iterations: Sequence[int] | None
    init: str | os.PathLike[str]
    strength: float
    content_weight: float
    style_weight: float
    tv_weight: float
    tv_form: str
    content_layers: Sequence[str]
    content_layer_weights: Sequence[float] | None
    style_layers: Sequence[str]
    style_layer_weights: Sequence[float] | None
    statistics: Sequence[str]
    statistics_weights: Sequence[float] | None
    style_blend: Sequence[float] | None
    blending: str
    gradient_norm: str
    pooling: str
    padding: str
    weights: str | os.PathLike[str]
    preprocessing: str
    color: str
    optimizer: str
    history_size: int | None
    learning_rate: float
    averaging: float
    seed: int
    engine: str
    provider: str
    device: str
    precision: str
