"""The objective written again, independently, in float64 from the formulas of the paper.

Convolution as the definition has it (a sum over shifted pictures), Gram matrices by einsum, the
losses as sums. Nothing of fastnst is used, so that an error there cannot hide here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

CAFFE_MEAN = (123.68, 116.779, 103.939)  # RGB


def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """y[o, i, j] = b[o] + Σ_c Σ_u Σ_v W[o, c, u, v] · x[c, i+u−1, j+v−1], zero outside."""
    _, height, width = x.shape
    padded = x.new_zeros(x.shape[0], height + 2, width + 2)
    padded[:, 1:-1, 1:-1] = x
    y = bias.view(-1, 1, 1).expand(-1, height, width)
    for u in range(3):
        for v in range(3):
            shifted = padded[:, u : u + height, v : v + width]
            y = y + torch.einsum("oc,chw->ohw", weight[:, :, u, v], shifted)
    return y


def pool(x: Tensor, kind: str) -> Tensor:
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    corners = torch.stack([x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)])
    return corners.mean(0) if kind == "average" else corners.amax(0)


def features(
    image: Tensor, tensors: Mapping[str, Tensor], names: Iterable[str], kind: str
) -> dict[str, Tensor]:
    """VGG-19 of a ``(3, H, W)`` float64 picture in [0, 1], to the deepest of ``names``."""
    names = set(names)
    x = image * 255 - torch.tensor(CAFFE_MEAN, dtype=image.dtype).view(3, 1, 1)
    found: dict[str, Tensor] = {}
    for block, count in enumerate((2, 2, 4, 4, 4), start=1):
        for index in range(1, count + 1):
            layer = f"{block}_{index}"
            weight, bias = tensors[f"conv{layer}.weight"], tensors[f"conv{layer}.bias"]
            x = convolution(x, weight.double(), bias.double())
            found[f"conv{layer}"] = x
            x = x * (x > 0)
            found[f"relu{layer}"] = x
            if names <= found.keys():
                return {name: found[name] for name in names}
        x = pool(x, kind)
        found[f"pool{block}"] = x
        if names <= found.keys():
            return {name: found[name] for name in names}
    raise AssertionError(names)


def objective(
    image: Tensor,
    content: Tensor,
    style: Tensor,
    tensors: Mapping[str, Tensor],
    *,
    content_layers: Iterable[str],
    layer_weights: Mapping[str, float],
    alpha: float,
    beta: float,
    tau: float = 0.0,
    kind: str = "average",
) -> Tensor:
    """L(x) = α Σ c_l + β Σ w_l g_l + τ tv(x) for ``(3, H, W)`` float64 pictures."""
    names = {*content_layers, *layer_weights}
    fx, fc, fs = (features(p, tensors, names, kind) for p in (image, content, style))
    total = image.new_zeros(())
    for name in content_layers:
        total = total + alpha * ((fx[name] - fc[name]) ** 2).sum() / fx[name].numel()
    for name, weight in layer_weights.items():
        gram = torch.einsum("ihw,jhw->ij", fx[name], fx[name]) / fx[name][0].numel()
        target = torch.einsum("ihw,jhw->ij", fs[name], fs[name]) / fs[name][0].numel()
        total = total + beta * weight * ((gram - target) ** 2).sum() / gram.numel()
    if tau:
        rows = (image[:, 1:] - image[:, :-1]) ** 2
        columns = (image[:, :, 1:] - image[:, :, :-1]) ** 2
        total = total + tau * (rows.sum() / rows.numel() + columns.sum() / columns.numel())
    return total
