"""The kernels that only a GPU has: an iteration but for its inner convolutions.

Features are ``(B, C, H, W)`` in channels_last, float32 or bfloat16. Every function queues its work
on the current stream of the tensors' device, writes into given tensors and waits for nothing. The
formulas in PyTorch's operators that these answer to stand in the engine and the solver that call
them, and in ``tests/ops/test_cuda_iteration.py``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.ops import buffers, extension
from fastnst.ops.buffers import DTYPES, POOLINGS, PRECISIONS
from fastnst.ops.extension import loaded
from fastnst.ops.history import EightBitRows

BLOCKS = 4  # sums of squares of a chunk


def unavailable_reason(device: torch.device) -> str | None:
    """Why these kernels do not run on a device, or None if they do."""
    if device.type != "cuda":
        return f"no such kernel for device {device.type!r}"
    if not extension.is_available():
        return extension.unavailable_reason()
    one = torch.empty(1, 1, 1, 1, dtype=torch.float32, device=device)
    return buffers.unavailable_reason(one)


def _place(tensor: Tensor) -> tuple[contextlib.AbstractContextManager[object], int, int]:
    """What makes a tensor's device the current one, the device's number and its current stream."""
    device = tensor.device
    if device.type != "cuda":
        raise InvalidInput(f"expected tensors on a GPU, got {device}")
    stream = torch.cuda.current_stream(device).cuda_stream
    return torch.cuda.device(device), device.index, stream


def _queue(function: str, tensor: Tensor, *arguments: Any, **named: Any) -> None:
    """Call a function of the extension for the device of a tensor.

    Raises:
        InvalidInput: a shape, address or size is wrong.
        BackendUnavailable: this build has no code for the device or its driver.
        RuntimeError: an error of the device, under the name that the extension gives it: it may
            come of work that was queued before.
    """
    context, device, stream = _place(tensor)
    with context:
        try:
            getattr(loaded(), function)(*arguments, device=device, stream=stream, **named)
        except ValueError as error:
            raise InvalidInput(str(error)) from None
        except RuntimeError as error:
            if type(error) is not RuntimeError:
                raise
            raise BackendUnavailable(str(error)) from None


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _check(name: str, x: Tensor, like: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Features that are to lie in memory as those of ``like``."""
    expected = tuple(like.shape) if shape is None else shape
    if tuple(x.shape) != expected or x.dtype != like.dtype or x.device != like.device:
        raise InvalidInput(
            f"{name}: expected {like.dtype} {expected} on {like.device}, "
            f"got {x.dtype} {tuple(x.shape)} on {x.device}"
        )
    if not x.is_contiguous(memory_format=torch.channels_last):
        raise InvalidInput(f"{name}: expected channels_last, got strides {x.stride()}")
    return x


def _sizes(features: Tensor) -> tuple[int, int, int, int]:
    batch, channels, height, width = features.shape
    return batch, height, width, channels


# ---------------------------------------------------------------------------------------- layers --


def square_sums(features: Tensor, pooling: str | None = None) -> Tensor:
    """Room for the sums of squares of ``layer_gradient``, ``(blocks,)`` float64."""
    sizes, dtype = _sizes(features), DTYPES[features.dtype]
    layer = (dtype, sizes, 0, 0, POOLINGS[pooling], False, 0, 0.0, 0, 0)
    blocks = loaded().cuda_layer_gradient_blocks(layer)
    return torch.empty(blocks, dtype=torch.float64, device=features.device)


def layer_gradient(
    features: Tensor,
    incoming: Tensor | None,
    *,
    pooling: str | None = None,
    relu_mask: bool = True,
    target: Tensor | None = None,
    scale: float = 0.0,
    squares: Tensor | None = None,
    out: Tensor,
) -> None:
    """out = mask(F) · (up(incoming) + scale · (F − P)), in one pass.

    Args:
        features: F.
        incoming: The gradient at the pooled features ``(B, C, H // 2, W // 2)`` with a pooling,
            and at F without one; None: zero.
        pooling: ``average``, ``max`` or None.
        relu_mask: Whether out is zero where F ≤ 0.
        target: P, or None.
        scale: Factor of F − P.
        squares: From ``square_sums``, written: sums of (F − P)².
        out: As F, written; without a pooling it may be ``incoming``.

    Raises:
        InvalidInput: a shape, type, layout or device is not as described.
    """
    _check("features", features, features)
    batch, height, width, channels = _sizes(features)
    pooled = (batch, channels, height // 2, width // 2) if pooling else None
    if incoming is not None and incoming.numel():
        _check("incoming", incoming, features, pooled)
    for name, tensor in (("target", target), ("out", out)):
        if tensor is not None:
            _check(name, tensor, features)
    layer = (
        DTYPES[features.dtype],
        (batch, height, width, channels),
        features.data_ptr(),
        _address(incoming),
        POOLINGS[pooling],
        relu_mask,
        _address(target),
        scale,
        _address(squares),
        out.data_ptr(),
    )
    _queue("cuda_layer_gradient", features, layer)


def pool_features(features: Tensor, pooling: str, *, out: Tensor) -> None:
    """out = the 2×2 pooling of F with stride 2; of an odd side the last row or column is left out.

    The same bits as PyTorch's pooling: averages are summed in float32 and rounded once.

    Args:
        features: F, channels_last.
        pooling: ``average`` or ``max``.
        out: ``(B, C, H // 2, W // 2)`` channels_last, written.

    Raises:
        InvalidInput: a shape, type, layout or device is not as described.
    """
    _check("features", features, features)
    batch, height, width, channels = _sizes(features)
    _check("out", out, features, (batch, channels, height // 2, width // 2))
    sizes = (batch, height, width, channels)
    where = (features.data_ptr(), POOLINGS[pooling], out.data_ptr())
    _queue("cuda_pool", features, DTYPES[features.dtype], sizes, *where)


# ---------------------------------------------------------------------------------------- losses --


@dataclass(frozen=True)
class LossTerm:
    """A loss and its weight in the total.

    Attributes:
        value: The loss, float32; or sums of squares, ``(blocks,)`` float64.
        factor: Its weight.
        divisor: What the sum of sums is divided by.
        offset: Added to the loss.
    """

    value: Tensor
    factor: float
    divisor: float = 1.0
    offset: float = 0.0


def weigh_losses(terms: Sequence[LossTerm], losses: Tensor) -> None:
    """losses[1 + k] = the loss of term k, losses[0] = their weighted sum, all float32."""
    described = []
    for term in terms:
        sums = term.value.dtype == torch.float64
        address, count = term.value.data_ptr(), term.value.numel() if sums else 0
        described.append(
            (
                address if sums else 0,
                count,
                term.divisor,
                0 if sums else address,
                term.offset,
                term.factor,
            )
        )
    _queue("cuda_losses", losses, described, losses.data_ptr())


# -------------------------------------------------------------------------------- Gram matrices --


def symmetric_differences(features: Tensor, precision: str) -> Tensor:
    """Room for (D + Dᵀ)/2 of a layer, ``(B, C, 8 ⌈C / 8⌉)``, in the type that the product takes."""
    context, device, _ = _place(features)
    with context:
        kind = loaded().cuda_symmetric_dtype(DTYPES[features.dtype], PRECISIONS[precision], device)
    dtype = next(dtype for dtype, number in DTYPES.items() if number == kind)
    batch, channels = features.shape[:2]
    return torch.empty(batch, channels, -(-channels // 8) * 8, dtype=dtype, device=features.device)


def style_losses(
    features: Sequence[Tensor],
    targets: Sequence[Tensor],
    losses: Tensor,
    symmetric: Sequence[Tensor],
    precision: str,
) -> None:
    """The mean of (G − A)² of every layer, and (D + Dᵀ)/2 with D = G − A for ``style_gradient``.

    Args:
        features: By layer.
        targets: A by layer, ``(C, C)`` float32.
        losses: ``(L,)`` float32, written.
        symmetric: From ``symmetric_differences``, written.
        precision: The coarsest that a factor may be rounded to: ``fp32``, ``tf32`` or ``bf16``.
    """
    layers, extras = [], []
    for index, (x, target, s) in enumerate(zip(features, targets, symmetric, strict=True)):
        channels = x.shape[1]
        buffers.check_buffer("targets", target, (channels, channels), device=x.device)
        loss = losses.data_ptr() + index * losses.element_size()
        layers.append((buffers.describe_tensor(x), 0, target.data_ptr(), 0, 0, loss))
        extras.append((s.data_ptr(), DTYPES[s.dtype]))
    size = loaded().cuda_gram_workspace(layers)
    workspace = torch.empty(size, dtype=torch.uint8, device=losses.device)
    rounding = PRECISIONS[precision]
    _queue("cuda_gram", losses, layers, rounding, workspace.data_ptr(), size, extras=extras)


def style_gradient(
    features: Tensor,
    symmetric: Tensor,
    scale: float,
    out: Tensor,
    *,
    accumulate: bool,
    relu_mask: bool,
    precision: str,
) -> None:
    """out = mask(F) · ((out, where it accumulates) + scale · S F), in one launch.

    Args:
        features: F.
        symmetric: S, from ``style_losses``.
        scale: Factor of the added term.
        out: As F, written.
        accumulate: Whether out is added to.
        relu_mask: Whether out, and not only what is added, is zero where F ≤ 0.
        precision: As for ``style_losses``.
    """
    _check("out", out, features)
    layer = (
        buffers.describe_tensor(features),
        0,
        scale,
        relu_mask,
        accumulate,
        out.data_ptr(),
        DTYPES[out.dtype],
        buffers.strides(out),
    )
    workspace = torch.empty(16, dtype=torch.uint8, device=out.device)  # S is there: it is not used
    _queue(
        "cuda_gram_gradient",
        out,
        [layer],
        PRECISIONS[precision],
        workspace.data_ptr(),
        workspace.numel(),
        extras=[(symmetric.data_ptr(), relu_mask)],
    )


# ----------------------------------------------------------------------------- first convolution --


@dataclass(frozen=True)
class ImageFilters:
    """The filters of the first layer in the kernels' order, float32.

    Attributes:
        forward: ``(27, C)``, taps in the order (plane, u, v).
        backward: ``(9, C, 4)``, flipped and divided by the standard deviation of each plane.
        forward_parts: ``(2, C, 32)`` bfloat16, whose sum over the first is ``forward[tap, c]`` at
            ``tap`` to 2⁻¹⁸, and zero from 27 on: what tensor cores multiply with.
        backward_parts: ``(2, 32, C)`` bfloat16, of ``backward[tap, c, plane]`` at
            ``3 · tap + plane`` in the same way.
        bias: ``(C,)``.
        mean: The mean of each plane, in the units of the picture.
        deviation: The standard deviation of each plane, in the same units.
    """

    forward: Tensor
    backward: Tensor
    forward_parts: Tensor
    backward_parts: Tensor
    bias: Tensor
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


def arrange_image_filters(
    weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor
) -> ImageFilters:
    """Arrange filters ``(C, 3, 3, 3)`` and bias ``(C,)``; mean and deviation have three numbers."""
    channels = weight.shape[0]
    weight, deviation = weight.detach().float(), deviation.detach().flatten().float()
    forward = weight.permute(1, 2, 3, 0).reshape(27, channels).contiguous()
    backward = weight.new_zeros(3, 3, channels, 4)
    backward[..., :3] = weight.flip(2, 3).permute(2, 3, 0, 1) / deviation.to(weight.device)
    a, b = (tuple(x.flatten().tolist()) for x in (mean, deviation))
    flat = backward.view(9, channels, 4)
    columns = flat[..., :3].permute(0, 2, 1).reshape(27, channels)
    forward_parts = _two_parts(functional.pad(forward.T, (0, 5)))
    backward_parts = _two_parts(functional.pad(columns, (0, 0, 0, 5)))
    flat_bias = bias.detach().float().contiguous()
    return ImageFilters(forward, flat, forward_parts, backward_parts, flat_bias, a, b)


def _two_parts(x: Tensor) -> Tensor:
    """Two bfloat16 numbers each, whose sum is x ``(m, n)`` to 2⁻¹⁸, ``(2, m, n)``."""
    high = x.bfloat16()
    return torch.stack([high, (x - high.float()).bfloat16()]).contiguous()


def image_features(
    image: Tensor, filters: ImageFilters, *, relu: bool, replicate: bool = False, out: Tensor
) -> None:
    """out = relu(W ∗ (image − mean) / deviation + b) for ``image`` ``(B, 3, H, W)`` float32.

    Args:
        image: Contiguous.
        filters: From ``arrange_image_filters``.
        relu: Whether negative values become zero.
        replicate: Pad with the edges of the picture; otherwise with zeros after the normalisation.
        out: ``(B, C, H, W)`` float32 or bfloat16, channels_last, written.
    """
    batch, _, height, width = image.shape
    channels = filters.bias.numel()
    buffers.check_buffer("image", image, (batch, 3, height, width), device=out.device)
    _check("out", out, out, (batch, channels, height, width))
    _queue(
        "cuda_image_features",
        out,
        (batch, height, width, channels),
        image.data_ptr(),
        filters.mean,
        filters.deviation,
        filters.forward.data_ptr(),
        filters.bias.data_ptr(),
        filters.forward_parts.data_ptr(),
        relu,
        replicate,
        DTYPES[out.dtype],
        out.data_ptr(),
    )


def image_gradient(gradient: Tensor, filters: ImageFilters, *, out: Tensor) -> None:
    """The gradient at the picture from that at ``image_features`` without ReLU, padded by zeros.

    Args:
        gradient: At the features before ReLU, ``(B, C, H, W)`` channels_last, float32 or bfloat16.
        filters: From ``arrange_image_filters``.
        out: ``(B, 3, H, W)`` float32, contiguous, written.
    """
    batch, height, width, channels = _sizes(_check("gradient", gradient, gradient))
    buffers.check_buffer("out", out, (batch, 3, height, width), device=gradient.device)
    _queue(
        "cuda_image_gradient",
        out,
        (batch, height, width, channels),
        DTYPES[gradient.dtype],
        gradient.data_ptr(),
        filters.backward.data_ptr(),
        filters.backward_parts.data_ptr(),
        out.data_ptr(),
    )


# --------------------------------------------------------------------------------------- history --


class DeviceRows(EightBitRows):
    """Rows of floats in eight bits on a GPU, whose numbers and counts stand there too."""

    def partials(self) -> Tensor:
        """Room for ``products``: ``(chunks, rows)`` float32."""
        return self.scales.new_empty(len(self.scales), self.rows)

    def store(self, slot: Tensor, x: Tensor) -> None:
        """Row ``slot`` (0-dimensional int64) ← x ``(n,)`` float32, finite.

        Each value is rounded by at most 1/254 of the largest of its block.
        """
        buffers.check_buffer("x", x, (self.length,), device=self.values.device)
        _queue("cuda_history_store", self.values, self.address, slot.data_ptr(), x.data_ptr())

    def products(self, used: Tensor, x: Tensor, partials: Tensor) -> None:
        """The inner products of the first ``used`` (0-dimensional int64) rows with x ``(n,)``.

        They are the sums of ``partials`` over the chunks; rows not in use are not written.
        """
        buffers.check_buffer("x", x, (self.length,), device=self.values.device)
        where = (used.data_ptr(), x.data_ptr(), partials.data_ptr())
        _queue("cuda_history_products", self.values, self.address, *where)

    def combine(
        self,
        used: Tensor,
        weights: Tensor,
        base: Tensor,
        *,
        sign: float = 1.0,
        outer: Tensor | None = None,
        squares: Tensor | None = None,
        out: Tensor,
    ) -> None:
        """out ``(n,)`` = outer · (sign · base + Σ weights[r] · row r) over the first ``used`` rows.

        Args:
            used: 0-dimensional int64.
            weights: ``(rows,)`` float32.
            base: ``(n,)``; it may be ``out``.
            sign: Factor of the base.
            outer: 0-dimensional float64, or None: 1.
            squares: ``(4 · chunks,)`` float64, written: sums of squares of out.
            out: ``(n,)`` float32, written.
        """
        for name, x in (("base", base), ("out", out)):
            buffers.check_buffer(name, x, (self.length,), device=self.values.device)
        _queue(
            "cuda_history_combination",
            self.values,
            self.address,
            used.data_ptr(),
            weights.data_ptr(),
            sign,
            base.data_ptr(),
            _address(outer),
            out.data_ptr(),
            _address(squares),
        )


def solver_take(solver: Mapping[str, Any], like: Tensor) -> None:
    """Take in an evaluation: ``CudaSolver`` of csrc/fastnst.h, its fields by name."""
    _queue("cuda_solver_take", like, dict(solver))


def solver_first(solver: Mapping[str, Any], like: Tensor, *, scaled: bool) -> None:
    """direction ← g − Yᵀu, times γ where ``scaled``."""
    _queue("cuda_solver_first", like, dict(solver), scaled)


def solver_second(solver: Mapping[str, Any], like: Tensor) -> None:
    """The direction −(z + Sᵀt) from z, and the step along it."""
    _queue("cuda_solver_second", like, dict(solver))
