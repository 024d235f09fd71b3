"""The operators of the compiled kernels, as PyTorch knows them.

Operators (autograd lives outside, in ``functional``), features always (B, C, H, W):

* ``fastnst::gram_matrix(features) -> (B, C, C)``
* ``fastnst::style_losses(features[], targets[]) -> losses (L,), differences (B, C, C)[]``
* ``fastnst::gram_gradients(features[], weights[], scales (L,)) -> scale · (W + Wᵀ)/2 · F``

Tensors lie on the CPU or, in a build with CUDA, all on one GPU: there the work is queued on torch's
current stream, and nothing waits for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastnst.ops.buffers import (
    addressable,
    check_4d,
    check_buffer,
    describe_tensor,
    position_stride,
)
from fastnst.ops.gram import gradient_layer, queue_gram, queue_gram_gradient, style_losses_into

torch.library.define("fastnst::gram_matrix", "(Tensor features) -> Tensor")
torch.library.define(
    "fastnst::style_losses", "(Tensor[] features, Tensor[] targets) -> (Tensor, Tensor[])"
)
torch.library.define(
    "fastnst::gram_gradients", "(Tensor[] features, Tensor[] weights, Tensor scales) -> Tensor[]"
)


def _empty_gram(features: Tensor) -> Tensor:
    batch, channels = features.shape[:2]
    return features.new_empty((batch, channels, channels), dtype=torch.float32)


_DEVICES = ("CPU", "CUDA")


@torch.library.impl("fastnst::gram_matrix", _DEVICES)
def _gram_matrix(features: Tensor) -> Tensor:
    check_4d("features", features)
    gram = _empty_gram(features)
    x = addressable(features)
    layer = (describe_tensor(x), gram.data_ptr(), 0, 0, 0, 0)
    queue_gram([layer], [x], None, x.device)
    return gram


@torch.library.impl("fastnst::style_losses", _DEVICES)
def _style_losses(features: list[Tensor], targets: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    losses = torch.empty(len(features), dtype=torch.float32, device=features[0].device)
    differences = [_empty_gram(x) for x in features]
    targets = [target.contiguous() for target in targets]
    style_losses_into(features, targets, losses=losses, differences=differences)
    return losses, differences


def _fake_style_losses(
    features: list[Tensor], targets: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    losses = features[0].new_empty((len(features),), dtype=torch.float32)
    return losses, [_empty_gram(x) for x in features]


@torch.library.impl("fastnst::gram_gradients", _DEVICES)
def _gram_gradients(features: list[Tensor], weights: list[Tensor], scales: Tensor) -> list[Tensor]:
    layers, kept, copies = [], [], []
    gradients = [torch.empty_like(x) for x in features]
    device = features[0].device
    if device.type == "cpu":
        factors = scales.tolist()
    else:  # their values stay where they are: nobody waits for the GPU
        weights = [weight * scale for weight, scale in zip(weights, scales, strict=True)]
        factors = [1.0] * len(weights)
    for x, weight, scale, gradient in zip(features, weights, factors, gradients, strict=True):
        check_4d("features", x, device)
        weight = weight.contiguous()
        check_buffer("weights", weight, (x.shape[0], x.shape[1], x.shape[1]), device=device)
        x = addressable(x)
        out = gradient
        if position_stride(gradient) is None:
            out = torch.empty_like(gradient, memory_format=torch.contiguous_format)
            copies.append((gradient, out))
        kept += [x, weight]
        layers.append(gradient_layer(x, weight, scale, False, False, out))
    queue_gram_gradient(layers, features, None, device)
    for gradient, out in copies:
        gradient.copy_(out)
    return gradients


def _fake_gram_gradients(
    features: list[Tensor], weights: list[Tensor], scales: Tensor
) -> list[Tensor]:
    return [torch.empty_like(x) for x in features]


# Shapes and types alone, for torch.compile.
torch.library.register_fake("fastnst::gram_matrix", _empty_gram)
torch.library.register_fake("fastnst::style_losses", _fake_style_losses)
torch.library.register_fake("fastnst::gram_gradients", _fake_gram_gradients)
