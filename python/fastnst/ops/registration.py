"""The operators of the compiled kernels, registered with torch under the name ``fastnst``.

Features are always ``(B, C, H, W)``, all tensors on the CPU or, in a build with CUDA, all on one
GPU. The operators know nothing of autograd: ``functional`` wraps it around them. Importing this
module registers them; what they compute is written in ``gram``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastnst.ops import gram

DEVICES = ("CPU", "CUDA")
SCHEMAS = {
    "gram_matrix": "(Tensor features) -> Tensor",
    "style_losses": "(Tensor[] features, Tensor[] targets) -> (Tensor, Tensor[])",
    "gram_gradients": "(Tensor[] features, Tensor[] weights, Tensor scales) -> Tensor[]",
}
KERNELS: dict[str, Callable[..., Any]] = {
    "gram_matrix": gram.gram_matrix,
    "style_losses": gram.style_losses,
    "gram_gradients": gram.gram_gradients,
}


def _fake_style_losses(
    features: list[Tensor], targets: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    losses = features[0].new_empty((len(features),), dtype=torch.float32)
    return losses, [gram.empty_gram(x) for x in features]


def _fake_gram_gradients(
    features: list[Tensor], weights: list[Tensor], scales: Tensor
) -> list[Tensor]:
    return [torch.empty_like(x) for x in features]


# Shapes and dtypes alone, for torch.compile.
FAKES: dict[str, Callable[..., Any]] = {
    "gram_matrix": gram.empty_gram,
    "style_losses": _fake_style_losses,
    "gram_gradients": _fake_gram_gradients,
}

for _name, _schema in SCHEMAS.items():
    torch.library.define(f"fastnst::{_name}", _schema)
    torch.library.impl(f"fastnst::{_name}", DEVICES, KERNELS[_name])
    torch.library.register_fake(f"fastnst::{_name}", FAKES[_name])
