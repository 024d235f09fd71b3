"""The kernels of Gram matrices and style losses, on the CPU and on a GPU.

On a GPU the work is queued on torch's current stream, and nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.ops.buffers import (
    DTYPES,
    PRECISIONS,
    addressable,
    check_buffer,
    check_features,
    describe_tensor,
    position_stride,
    strides,
)
from fastnst.ops.extension import call, loaded

# ------------------------------------------------------------------------ with given buffers --


def style_losses_into(
    features: Sequence[Tensor],
    target_grams: Sequence[Tensor],
    *,
    losses: Tensor,
    differences: Sequence[Tensor] | None = None,
    grams: Sequence[Tensor] | None = None,
    precision: str | None = None,
) -> None:
    """G, D = G − A and the mean of D² of every layer, into given buffers, in one native call.

    Args:
        features: Those of each layer, (B, C, H, W), float32 or bfloat16, any layout, all on one
            device.
        target_grams: A of each layer, (C, C) or (B, C, C), float32, contiguous.
        losses: (L,) float32, written.
        differences: D of each layer, (B, C, C) float32, written; what the gradient takes.
        grams: G of each layer, (B, C, C) float32, written.
        precision: On a GPU, the coarsest that a feature may be rounded to before it is multiplied:
            "fp32", "tf32" or "bf16". None: no rounding for bfloat16 features, and for float32 what
            ``torch.backends.cuda.matmul.fp32_precision`` allows. Sums are float32 at least.

    Raises:
        InvalidInput: a shape, type, device or layout is not as described.
        BackendUnavailable: the extension is not loaded, or ``FASTNST_CPU_ISA`` or the GPU cannot
            run it.
    """
    loaded()
    count = len(features)
    for name, buffers in (
        ("target_grams", target_grams),
        ("differences", differences),
        ("grams", grams),
    ):
        if buffers is not None and len(buffers) != count:
            raise InvalidInput(f"{name}: expected {count} tensors, got {len(buffers)}")
    device = losses.device
    check_buffer("losses", losses, (count,), device=device)
    layers, alive = [], []
    for index, (x, target) in enumerate(zip(features, target_grams, strict=True)):
        check_features("features", x, device)
        batch, channels = x.shape[:2]
        square = (channels, channels)
        stacked = (batch, *square) if target.ndim == 3 else square
        check_buffer("target_grams", target, stacked, device=device)
        gram = difference = 0
        if differences is not None:
            check_buffer("differences", differences[index], (batch, *square), device=device)
            difference = differences[index].data_ptr()
        if grams is not None:
            check_buffer("grams", grams[index], (batch, *square), device=device)
            gram = grams[index].data_ptr()
        x = addressable(x)
        alive.append(x)  # until the call returns
        target_stride = channels * channels if target.ndim == 3 else 0
        loss = losses.data_ptr() + index * losses.element_size()
        layers.append(
            (describe_tensor(x), gram, target.data_ptr(), target_stride, difference, loss)
        )
    queue_gram(layers, features, precision, device)


def accumulate_style_gradient(
    features: Tensor,
    difference: Tensor,
    scale: float,
    relu_mask: bool,
    out_grad: Tensor,
    *,
    accumulate: bool = True,
    precision: str | None = None,
) -> None:
    """out += scale · mask(F > 0) · (D + Dᵀ)/2 · F, in one pass over F.

    With scale = 4 / (B·C²·N) this adds the gradient of the style loss. ``relu_mask`` applies the
    derivative of the ReLU whose output the features are.

    Args:
        features: F, (B, C, H, W), float32 or bfloat16.
        difference: D = G − A, (B, C, C), float32, contiguous.
        scale: Factor of the added term.
        relu_mask: Whether to leave the gradient zero where F ≤ 0.
        out_grad: Same shape as features, float32 or bfloat16; its positions must be walked with one
            stride, as those of contiguous and channels_last tensors are. It must not share memory
            with the features, which are read more than once.
        accumulate: False overwrites ``out_grad`` instead of adding to it.
        precision: As for :func:`style_losses_into`; D is rounded too.

    Raises:
        InvalidInput: a shape, type, device or layout is not as described.
        BackendUnavailable: the extension is not loaded, or ``FASTNST_CPU_ISA`` or the GPU cannot
            run it.
    """
    loaded()
    check_features("features", features)
    device = features.device
    check_features("out_grad", out_grad, device)
    batch, channels = features.shape[:2]
    check_buffer("difference", difference, (batch, channels, channels), device=device)
    if out_grad.shape != features.shape:
        raise InvalidInput(
            f"out_grad: expected shape {tuple(features.shape)}, got {tuple(out_grad.shape)}"
        )
    if position_stride(out_grad) is None:
        raise InvalidInput(
            f"out_grad: expected contiguous or channels_last, got strides {out_grad.stride()}"
        )
    x = addressable(features)
    layer = gradient_layer(x, difference, scale, relu_mask, accumulate, out_grad)
    queue_gram_gradient([layer], [x], precision, device)


# ------------------------------------------------------------ what the operators of torch call --


def gram_matrix(features: Tensor) -> Tensor:
    """G = F Fᵀ / N of features ``(B, C, H, W)``: ``(B, C, C)`` float32."""
    check_features("features", features)
    gram = empty_gram(features)
    x = addressable(features)
    layer = (describe_tensor(x), gram.data_ptr(), 0, 0, 0, 0)
    queue_gram([layer], [x], None, x.device)
    return gram


def style_losses(features: list[Tensor], targets: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The mean of D² of every layer ``(L,)``, and every D = G − A ``(B, C, C)``, float32."""
    losses = torch.empty(len(features), device=features[0].device, dtype=torch.float32)
    differences = [empty_gram(x) for x in features]
    targets = [target.contiguous() for target in targets]
    style_losses_into(features, targets, losses=losses, differences=differences)
    return losses, differences


def gram_gradients(features: list[Tensor], weights: list[Tensor], scales: Tensor) -> list[Tensor]:
    """scale · (W + Wᵀ)/2 · F of every layer, in the dtype of its features.

    Args:
        features: F of each layer, (B, C, H, W).
        weights: W of each layer, (B, C, C) float32.
        scales: (L,) float32.
    """
    layers, alive, copies = [], [], []
    gradients = [torch.empty_like(x) for x in features]
    device = features[0].device
    if device.type == "cpu":
        factors = scales.tolist()
    else:  # their values stay where they are: nobody waits for the GPU
        weights = [weight * scale for weight, scale in zip(weights, scales, strict=True)]
        factors = [1.0] * len(weights)
    for x, weight, scale, gradient in zip(features, weights, factors, gradients, strict=True):
        check_features("features", x, device)
        weight = weight.contiguous()
        check_buffer("weights", weight, (x.shape[0], x.shape[1], x.shape[1]), device=device)
        x = addressable(x)
        out = gradient
        if position_stride(gradient) is None:
            out = torch.empty_like(gradient, memory_format=torch.contiguous_format)
            copies.append((gradient, out))
        alive += [x, weight]  # until the call returns
        layers.append(gradient_layer(x, weight, scale, False, False, out))
    queue_gram_gradient(layers, features, None, device)
    for gradient, out in copies:
        gradient.copy_(out)
    return gradients


def empty_gram(features: Tensor) -> Tensor:
    """Uninitialised memory for G of features ``(B, C, H, W)``: ``(B, C, C)`` float32."""
    batch, channels = features.shape[:2]
    return features.new_empty((batch, channels, channels), dtype=torch.float32)


# ------------------------------------------------------------------------ calls of the extension --


def gradient_layer(
    x: Tensor, difference: Tensor, scale: float, relu_mask: bool, accumulate: bool, out: Tensor
) -> tuple[Any, ...]:
    """One layer of a gradient as the extension takes it; the arguments are checked already."""
    where = (out.data_ptr(), DTYPES[out.dtype], strides(out))
    return (describe_tensor(x), difference.data_ptr(), scale, relu_mask, accumulate, *where)


def queue_gram(
    layers: list[Any], features: Sequence[Tensor], precision: str | None, device: torch.device
) -> None:
    """Compute Gram matrices and style losses.

    Args:
        layers: For each layer, what ``_C.gram`` takes.
        features: Those of each layer; their dtypes decide the precision where none is asked for.
        precision: As for :func:`style_losses_into`.
        device: Where everything lies.
    """
    extension = loaded()
    rounding = _precision(features, precision)
    if device.type == "cpu":
        call(extension.gram, layers, torch.get_num_threads())
    else:
        _queue(extension.cuda_gram_workspace, extension.cuda_gram, layers, rounding, device)


def queue_gram_gradient(
    layers: list[Any], features: Sequence[Tensor], precision: str | None, device: torch.device
) -> None:
    """Compute the gradients of style losses; arguments as for :func:`queue_gram`."""
    extension = loaded()
    rounding = _precision(features, precision)
    if device.type == "cpu":
        call(extension.gram_gradient, layers, torch.get_num_threads())
    else:
        sizes, function = extension.cuda_gram_gradient_workspace, extension.cuda_gram_gradient
        _queue(sizes, function, layers, rounding, device)


def _queue(
    workspace_bytes: Callable[..., Any],
    function: Callable[..., Any],
    layers: list[Any],
    precision: int,
    device: torch.device,
) -> None:
    """Queue work on the current stream, with a workspace of torch's.

    The workspace may be freed at once: torch hands it out again to later work of the same stream
    only.
    """
    size = call(workspace_bytes, layers)
    with torch.cuda.device(device):
        workspace = torch.empty(size, dtype=torch.uint8, device=device)
        stream = torch.cuda.current_stream(device).cuda_stream
        call(function, layers, precision, workspace.data_ptr(), size, device.index, stream)


def _precision(features: Sequence[Tensor], asked: str | None) -> int:
    """The arithmetic on a GPU: as asked, or what the features and torch's settings say."""
    if asked is None:
        if any(x.dtype == torch.bfloat16 for x in features):
            asked = "bf16"
        else:
            asked = "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "fp32"
    if asked not in PRECISIONS:
        raise InvalidInput(f"precision: expected one of {', '.join(PRECISIONS)}, got {asked!r}")
    return PRECISIONS[asked]
