"""Gram matrix and style loss: checks, the choice of backend, and autograd around the kernels.

In normal form, for features F_b (C × N, N = H·W) of one layer:

    G_b = F_b F_bᵀ / N                                the Gram matrix
    g   = mean over b, i, j of (G_b − A_b)²           the style loss, A the style's Gram matrix
    ∂g/∂F_b = 4 / (B·C²·N) · (G_b − A_b) F_b

Features are ``(C, H, W)`` or ``(B, C, H, W)``, float32 or bfloat16 (float16 and float64 through
PyTorch), contiguous or channels_last; other strides are fine too, and cost one copy only where the
positions cannot be walked with one stride. Results are float32 (float64 for float64 features).

``backend``: ``"torch"`` is plain PyTorch; ``"native"`` is the compiled kernels, or
:class:`~fastnst.errors.BackendUnavailable` with the reason; ``"auto"`` takes the kernels where they
can run and win, and PyTorch elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor

from fastnst.devices import ordinary, without_autocast
from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.ops import (
    buffers,
    reference,
    registration,  # noqa: F401  (registers torch.ops.fastnst)
)

# "auto" leaves less work than this, C²·N multiply-adds over all layers, to PyTorch: a call of the
# kernels costs some 50 µs more. One thread, Zen 5, forward and backward, native against PyTorch:
# 64 channels of 8×8 121 / 87 µs, 64 of 32×32 202 / 403 µs, 512 of 2×2 302 / 1339 µs. From there on
# the kernels won at every shape tried (1 to 2048 channels, 4 to 512² positions).
SMALL = 2**19

_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def gram_matrix(features: Tensor, *, backend: str = "auto") -> Tensor:
    """G = F Fᵀ / N, the correlations between the channels.

    Args:
        features: (C, H, W) or (B, C, H, W).
        backend: "auto", "torch" or "native".

    Returns:
        (C, C) or (B, C, C), float32; float64 for float64 features.

    Raises:
        InvalidInput: wrong shape or dtype, an empty dimension, or an unknown backend.
        BackendUnavailable: ``backend="native"`` cannot run.
    """
    _check_features("features", features)
    if _choose(backend, [features]) == "torch":
        return reference.gram_matrix(features)
    if features.ndim == 3:
        return cast("Tensor", _apply(_Gram, features.unsqueeze(0))).squeeze(0)
    return cast("Tensor", _apply(_Gram, features))


def style_loss(features: Tensor, target_gram: Tensor, *, backend: str = "auto") -> Tensor:
    """Mean of (G − A)² over (B,) C × C: how far the features are from the style.

    Differentiable in both arguments, to any order, in reverse mode.

    Args:
        features: (C, H, W) or (B, C, H, W).
        target_gram: A, (C, C), or (B, C, C) for a batch; float32 (float64 for float64 features).
        backend: "auto", "torch" or "native".

    Returns:
        A scalar, float32; float64 for float64 features.

    Raises:
        InvalidInput: wrong shape, dtype or device, an empty dimension, or an unknown backend.
        BackendUnavailable: ``backend="native"`` cannot run.
    """
    _check_pair("", features, target_gram)
    if _choose(backend, [features]) == "torch":
        return reference.style_loss(features, target_gram)
    return _style_losses([features], [target_gram])[0]


def style_losses(
    features: Sequence[Tensor], target_grams: Sequence[Tensor], *, backend: str = "auto"
) -> Tensor:
    """The style loss of several layers at once, so that small layers do not wait for threads.

    Args:
        features: per layer (C, H, W) or (B, C, H, W).
        target_grams: per layer as for :func:`style_loss`.
        backend: "auto", "torch" or "native"; "auto" takes PyTorch if any layer needs it.

    Returns:
        (L,), float32; float64 for float64 features.

    Raises:
        InvalidInput: no layer, lengths that differ, or what :func:`style_loss` rejects.
        BackendUnavailable: ``backend="native"`` cannot run.
    """
    if not features or len(features) != len(target_grams):
        raise InvalidInput(
            "style_losses: expected as many features as target Gram matrices, at least one each, "
            f"got {len(features)} and {len(target_grams)}"
        )
    for index, (layer, target) in enumerate(zip(features, target_grams, strict=True)):
        _check_pair(f"layer {index}: ", layer, target)
    if _choose(backend, features) == "torch":
        return reference.style_losses(features, target_grams)
    return _style_losses(features, target_grams)


# --------------------------------------------------------------------------- checks and choice --


def _check_features(name: str, x: Tensor) -> None:
    if x.ndim not in (3, 4):
        raise InvalidInput(
            f"{name}: expected shape (C, H, W) or (B, C, H, W), got {tuple(x.shape)}"
        )
    if 0 in x.shape:
        raise InvalidInput(f"{name}: expected no empty dimension, got shape {tuple(x.shape)}")
    if x.dtype not in _FLOATS:
        raise InvalidInput(f"{name}: expected floating point, got {x.dtype}")


def _check_pair(prefix: str, features: Tensor, target: Tensor) -> None:
    _check_features(f"{prefix}features", features)
    channels = features.shape[-3]
    allowed: list[tuple[int, ...]] = [(channels, channels)]
    if features.ndim == 4:
        allowed.append((features.shape[0], channels, channels))
    if tuple(target.shape) not in allowed:
        raise InvalidInput(
            f"{prefix}target_gram: expected shape {' or '.join(map(str, allowed))}, "
            f"got {tuple(target.shape)}"
        )
    exact = target.dtype == features.dtype == torch.float64
    if target.dtype != torch.float32 and not exact:
        raise InvalidInput(f"{prefix}target_gram: expected torch.float32, got {target.dtype}")
    if target.device != features.device:
        raise InvalidInput(
            f"{prefix}target_gram: expected device {features.device}, got {target.device}"
        )


def _choose(backend: str, features: Sequence[Tensor]) -> Literal["torch", "native"]:
    if backend == "torch":
        return "torch"
    if backend not in ("auto", "native"):
        raise InvalidInput(f"backend: expected 'auto', 'torch' or 'native', got {backend!r}")
    for x in features:
        reason = buffers.unavailable_reason(x)
        if reason is not None:
            if backend == "native":
                raise BackendUnavailable(f"backend='native': {reason}")
            return "torch"
    if backend == "auto" and sum(x.numel() * x.shape[-3] for x in features) < SMALL:
        return "torch"
    return "native"


# ------------------------------------------------------------------------------------- autograd --
# Outside the operators, which know nothing of it. Every backward is made of differentiable pieces,
# so that second derivatives are right; vmap folds its dimension into the batch.


def _apply(function: type[torch.autograd.Function], *tensors: Tensor) -> Any:
    apply: Any = function.apply  # untyped in torch
    return apply(*tensors)


def _style_losses(features: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    batched = [x if x.ndim == 4 else x.unsqueeze(0) for x in features]
    if not torch.compiler.is_compiling():  # dynamo does not know what it asks
        targets = [ordinary(x) for x in targets]
    losses: Tensor = _apply(_StyleLosses, *batched, *targets)[0]
    return losses


def _gram_gradients(
    scales: Tensor, features: list[Tensor], weights: list[Tensor]
) -> Sequence[Tensor]:
    """scale · (W + Wᵀ)/2 · F of every layer, which autograd can differentiate again.

    Under ``torch.compile`` it cannot, which has no second derivatives anyway.
    """
    if torch.compiler.is_compiling():  # dynamo knows no Function inside a backward
        compiled: list[Tensor] = torch.ops.fastnst.gram_gradients(features, weights, scales)
        return compiled
    eager: tuple[Tensor, ...] = _apply(_GramGradients, scales, *features, *weights)
    return eager


def _fold(x: Tensor, dim: int | None, size: int) -> Tensor:
    """(.., V, ..) or, when every sample shares x, no V at all → (V, ...)."""
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


class _Gram(torch.autograd.Function):
    """(B, C, H, W) → (B, C, C)."""

    @staticmethod
    def forward(features: Tensor) -> Tensor:
        gram: Tensor = torch.ops.fastnst.gram_matrix(features)
        return gram

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # G = F Fᵀ / N:   dF = (W + Wᵀ) F / N   for W = ∂L/∂G
        (features,) = ctx.saved_tensors
        positions = features.shape[2] * features.shape[3]
        scales = torch.full((1,), 2 / positions, dtype=torch.float32, device=features.device)
        return _gram_gradients(scales, [features], [grad])[0]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], features: Tensor) -> tuple[Tensor, int]:
        x = _fold(features, in_dims[0], info.batch_size)
        return _apply(_Gram, x.flatten(0, 1)).unflatten(0, x.shape[:2]), 0


class _GramGradients(torch.autograd.Function):
    """scales (L,), F_l (B, C, H, W) …, W_l (B, C, C) … → scale_l · (W_l + W_lᵀ)/2 · F_l …"""

    @staticmethod
    def forward(scales: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = len(tensors) // 2
        features, weights = list(tensors[:count]), list(tensors[count:])
        return tuple(torch.ops.fastnst.gram_gradients(features, weights, scales))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # Second order, in plain PyTorch. For Y = s S F with S = (W + Wᵀ)/2 and V = ∂L/∂Y:
        # ∂L/∂F = s S V,   ∂L/∂W = s (V Fᵀ + F Vᵀ)/2,   ∂L/∂s = Σ V ∘ S F
        scales, *tensors = ctx.saved_tensors
        count = len(grads)
        d_scales, d_features, d_weights = [], [], []
        for index, grad in enumerate(grads):
            features, weight = tensors[index], tensors[count + index]
            f, v = features.flatten(2).float(), grad.flatten(2).float()
            s, symmetric = scales[index], (weight + weight.mT) / 2
            with without_autocast(f.device.type):
                outer, inner = v @ f.mT, symmetric @ v
            d_scales.append((symmetric * outer).sum())
            d_features.append((s * inner).reshape(features.shape).to(features.dtype))
            d_weights.append(s * (outer + outer.mT) / 2)
        return torch.stack(d_scales), *d_features, *d_weights

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], scales: Tensor, *tensors: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        count = len(tensors) // 2
        samples = [_fold(x, d, info.batch_size) for x, d in zip(tensors, in_dims[1:], strict=True)]
        factors = _fold(scales, in_dims[0], info.batch_size)  # (V, L), folded into the weights
        weights = [w * factors[:, i, None, None, None] for i, w in enumerate(samples[count:])]
        flat = [x.flatten(0, 1) for x in (*samples[:count], *weights)]
        gradients = _apply(_GramGradients, factors.new_ones(count), *flat)
        shapes = [x.shape for x in samples[:count]]
        return tuple(g.reshape(s) for g, s in zip(gradients, shapes, strict=True)), (0,) * count


class _StyleLosses(torch.autograd.Function):
    """F_l (B, C, H, W) …, A_l (C, C) or (B, C, C) … → losses (L,), differences (B, C, C) …"""

    @staticmethod
    def forward(*tensors: Tensor) -> tuple[Tensor, ...]:
        count = len(tensors) // 2
        features, targets = list(tensors[:count]), list(tensors[count:])
        losses, differences = torch.ops.fastnst.style_losses(features, targets)
        return losses, *differences

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.saved_tensors) // 3
        saved = ctx.saved_tensors
        features, targets, differences = saved[:count], saved[count : 2 * count], saved[-count:]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # create_graph: D once more, this time with its own graph
            differences = [_apply(_Gram, f) - a for f, a in zip(features, targets, strict=True)]
        # g = mean D²:   ∂g/∂A = −2 D / (B·C²),   ∂g/∂F = 4 D F / (B·C²·N)
        means = [1 / d.numel() for d in differences]
        positions = [f.shape[2] * f.shape[3] for f in features]
        d_targets: list[Tensor | None] = [None] * count
        for index, (target, difference) in enumerate(zip(targets, differences, strict=True)):
            if ctx.needs_input_grad[count + index]:
                d_target = (-2 * means[index]) * grad[index] * difference
                d_targets[index] = d_target if target.ndim == 3 else d_target.sum(0)
        d_features: list[Tensor | None] = [None] * count
        wanted = [index for index in range(count) if ctx.needs_input_grad[index]]
        if wanted:
            factors = [4 * means[i] / positions[i] for i in wanted]
            scales = torch.stack([grad[i] * f for i, f in zip(wanted, factors, strict=True)])
            results = _gram_gradients(
                scales, [features[i] for i in wanted], [differences[i] for i in wanted]
            )
            for index, result in zip(wanted, results, strict=True):
                d_features[index] = result
        return *d_features, *d_targets

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        count = len(tensors) // 2
        samples = [_fold(x, d, info.batch_size) for x, d in zip(tensors, in_dims, strict=True)]
        differences = []
        for x, target in zip(samples[:count], samples[count:], strict=True):
            gram = _apply(_Gram, x.flatten(0, 1)).unflatten(0, x.shape[:2])
            differences.append(gram - (target if target.ndim == 4 else target.unsqueeze(1)))
        losses = torch.stack([d.square().mean((1, 2, 3)) for d in differences], 1)
        return (losses, *differences), (0,) * (count + 1)
