"""Objectives, pictures and controls for evaluations in strips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastnst.evaluation import Evaluation
from fastnst.network.weights import Weights
from fastnst.objective.build import build_objective
from fastnst.objective.objective import Objective
from fastnst.objective.regions import Region
from fastnst.settings.settings import Settings
from fastnst.strips.geometry import Spacing, Tile
from helpers.controls import picture

SHALLOW = {"content_layers": ("relu2_2",), "style_layers": ("relu1_1", "relu2_1", "relu3_1")}
CONTROLS: dict[str, Mapping[str, Any]] = {
    "gram": {},
    "average": {"pooling": "average"},
    "max": {"pooling": "max"},
    "l2": {"pooling": "l2"},
    "replicate": {"padding": "replicate"},
    "poolings and preactivations": {
        "content_layers": ("conv1_2", "pool1"),
        "style_layers": ("conv2_1", "pool2", "pool1", "relu2_2"),
    },
    "content alone": {"style_weight": 0.0},
    "style alone": {"content_weight": 0.0},
    "covariance": {"statistics": ("covariance",)},
    "mean-std": {"statistics": ("mean-std",)},
    "wasserstein": {"statistics": ("wasserstein",)},
    "several statistics": {"statistics": ("gram", "mean-std"), "statistics_weights": (0.3, 0.7)},
    "blended targets": {"style_blend": (1.0, 3.0), "blending": "targets"},
    "blended losses": {"style_blend": (1.0, 3.0), "blending": "losses"},
    "regions": {"statistics": ("gram", "covariance")},
    "squared": {"tv_weight": 2.0},
    "absolute": {"tv_weight": 2.0, "tv_form": "absolute"},
    "squared-sum": {"tv_weight": 2e-3, "tv_form": "squared-sum"},
    "absolute-sum": {"tv_weight": 2e-3, "tv_form": "absolute-sum"},
    "nine-point": {"tv_weight": 2.0, "tv_form": "nine-point"},
    "color": {"tv_weight": 2.0, "tv_form": "color"},
}


def objective(
    weights: Weights, height: int, width: int, control: str, dtype: torch.dtype, **further: Any
) -> tuple[Objective, Tensor]:
    """An objective with a control, and a picture to evaluate it at."""
    settings = Settings(**{**SHALLOW, **CONTROLS[control], **further})
    content, image = picture(width, height, 1).to(dtype), picture(width, height, 0).to(dtype)
    # Darker than the picture: where G and A nearly agree the rounding of G, which is not what is
    # tested, is a large part of G − A.
    styles = [0.4 * picture(41, 53, 2).to(dtype)]
    regions = None
    if control.startswith("blended") or control == "regions":
        styles.append(0.4 * picture(38, 44, 3).to(dtype))
    if control == "regions":
        left = torch.linspace(1, 0, width, dtype=dtype).expand(height, width)
        half = torch.zeros(53, 41, dtype=dtype)
        half[:, 20:] = 1
        regions = (Region({0: half}, left, "left"), Region({1: None}, 1 - left, "right"))
    return build_objective(weights, content, styles, settings, "torch", regions), image


def spacing_of(it: Objective, tiles: tuple[int, ...] = (1,)) -> Spacing:
    return Spacing.of(it.network.architecture.up_to(it.layers), tiles)


def errors(got: Evaluation, expected: Evaluation) -> tuple[float, float]:
    """Relative errors of the loss and of the gradient."""
    total, right = got.terms.total.double(), expected.terms.total.double()
    x, y = got.gradient.double(), expected.gradient.double()
    return float((total - right).abs() / right.abs()), float((x - y).norm() / y.norm())


def everything_owned(tile: Tile, layer: str) -> tuple[slice, slice]:
    """The fault of not masking gradients to the owned positions: all computed ones count."""
    return slice(None), slice(None)
