"""The objective written again, independently, in float64 from the formulas of the paper.

Convolution as the definition has it (a sum over shifted pictures), Gram matrices by einsum, the
losses as sums. Nothing of fastnst is used, so that an error there cannot hide here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

CAFFE_MEAN = (123.68, 116.779, 103.939)  # RGB


def convolution(x: Tensor, weight: Tensor, bias: Tensor, padding: str = "zero") -> Tensor:
    """y[o, i, j] = b[o] + Σ_c Σ_u Σ_v W[o, c, u, v] · x[c, i+u−1, j+v−1], zero outside."""
    _, height, width = x.shape
    if padding == "replicate":  # x[c, i, j] outside is x at the nearest position inside
        rows = torch.arange(-1, height + 1).clamp(0, height - 1)
        columns = torch.arange(-1, width + 1).clamp(0, width - 1)
        padded = x[:, rows][:, :, columns]
    else:
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
    if kind == "l2":
        squares = (corners**2).sum(0) / 4
        return torch.where(squares > 0, squares, 1e-24).sqrt() * (squares > 0)
    return corners.mean(0) if kind == "average" else corners.amax(0)


def features(
    image: Tensor,
    tensors: Mapping[str, Tensor],
    names: Iterable[str],
    kind: str,
    padding: str = "zero",
    scale: tuple[tuple[float, ...], float | tuple[float, ...]] = (CAFFE_MEAN, 1.0),
) -> dict[str, Tensor]:
    """VGG-19 of a ``(3, H, W)`` float64 picture in [0, 1], to the deepest of ``names``.

    ``scale`` is (mean, std) of the network's input, in units of 0–255.
    """
    names = set(names)
    mean, std = (torch.tensor(v, dtype=image.dtype).view(-1, 1, 1) for v in scale)
    x = (image * 255 - mean) / std
    found: dict[str, Tensor] = {}
    for block, count in enumerate((2, 2, 4, 4, 4), start=1):
        for index in range(1, count + 1):
            layer = f"{block}_{index}"
            weight, bias = tensors[f"conv{layer}.weight"], tensors[f"conv{layer}.bias"]
            outside = padding if layer == "1_1" else "zero"
            x = convolution(x, weight.double(), bias.double(), outside)
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
    form: str = "squared",
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
    return total + tau * total_variation(image, form) if tau else total


# ------------------------------------------------------------------------------------ statistics --


def style_distance(name: str, f: Tensor, a: Tensor, t: Tensor, u: Tensor) -> Tensor:
    """The distance of two layers' statistics, by their definitions with sums over positions.

    ``f`` and ``a`` are features ``(C, h, w)``; ``t`` and ``u`` guidance ``(h, w)`` with Σ T² = 1.
    """
    if name == "gram":
        return ((second(f, t) - second(a, u)) ** 2).sum() / len(f) ** 2
    mean, mean_a = first(f, t), first(a, u)
    covariance = second(f - mean.view(-1, 1, 1), t)
    covariance_a = second(a - mean_a.view(-1, 1, 1), u)
    if name == "covariance":
        return ((covariance - covariance_a) ** 2).sum() / len(f) ** 2
    means = ((mean - mean_a) ** 2).sum() / len(f)
    if name == "mean-std":
        std, std_a = (
            (c.diagonal() + 1e-8).sqrt() for c in (covariance, covariance_a)
        )  # the variance of a constant channel has a root with a slope
        return means + ((std - std_a) ** 2).sum() / len(f)
    assert name == "wasserstein"
    ridge = max(1e-4, 1e-6 * float(covariance_a.diagonal().mean()))
    eye = ridge * torch.eye(len(f), dtype=f.dtype)
    covariance, covariance_a = covariance + eye, covariance_a + eye
    values, vectors = torch.linalg.eigh(covariance_a)
    root = vectors @ torch.diag(values.sqrt()) @ vectors.T
    roots = torch.linalg.eigvalsh(root @ covariance @ root).clamp_min(1e-12).sqrt()
    return means + (covariance.trace() + covariance_a.trace() - 2 * roots.sum()) / len(f)


def first(f: Tensor, t: Tensor) -> Tensor:
    return torch.einsum("chw,hw->c", f, t**2)


def second(f: Tensor, t: Tensor) -> Tensor:
    return torch.einsum("chw,dhw,hw->cd", f, f, t**2)


def no_guidance(f: Tensor) -> Tensor:
    """T with Σ T² = 1 that is the same everywhere, for features ``(C, h, w)``."""
    return torch.full_like(f[0], 1 / f[0].numel() ** 0.5)


def total_variation(x: Tensor, form: str) -> Tensor:
    """Of a ``(3, H, W)`` picture, with loops over what neighbours what."""
    _, height, width = x.shape
    if form == "nine-point":
        rows = torch.arange(-1, height + 1).clamp(0, height - 1)
        columns = torch.arange(-1, width + 1).clamp(0, width - 1)
        p = x[:, rows][:, :, columns]
        weights = {(0, 1): 1 / 3, (1, 0): 1 / 3, (1, 1): 1 / 12, (1, -1): 1 / 12}
        total = x.new_zeros(())
        for (i, j), weight in weights.items():
            # both diagonals start from every position of the padded picture, the others from inside
            inside = slice(1, -1) if 0 in (i, j) else slice(None)
            other = p.roll((-i, -j), (1, 2))
            d = (other - p)[:, inside, inside] if 0 in (i, j) else (other - p)[:, :-1]
            if 0 not in (i, j):
                d = d[:, :, :-1] if j == 1 else d[:, :, 1:]
            total = total + 2 * weight * (d**2).sum() / d.numel()
        return total
    if form == "color":
        luminance = 0.299 * x[0] + 0.587 * x[1] + 0.114 * x[2]
        x = torch.stack([x[2] - luminance, x[0] - luminance])
    power = 1 if form.startswith("absolute") else 2
    down, right = (
        (x[:, 1:] - x[:, :-1]).abs() ** power,
        (x[:, :, 1:] - x[:, :, :-1]).abs() ** power,
    )
    if form.endswith("-sum"):
        return down.sum() + right.sum()
    return down.sum() / down.numel() + right.sum() / right.numel()
