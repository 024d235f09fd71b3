"""The compiled convolutions: 3×3, stride 1, padding 1, which is all that VGG has.

Features are channels_last, held as contiguous ``(B, H, W, C)`` tensors; C is a multiple of 16. They
are float32 or, on processors with bfloat16 products (avx512bf16, neonbf16), all bfloat16 with sums
in float32. There float32 features may be multiplied in bfloat16 as well, and with avx512vnni in
integers of 16 bits, whose sums over 128 channels are exact: then the filters and Winograd's
transformed patches are rounded to it, and nothing else is. Every function writes into given
tensors, has a plain-PyTorch twin in ``reference`` that takes the filters as they are and returns
its result, and stays outside autograd. Inner layers are computed by Winograd's F(4×4, 3×3) or,
where there are positions enough, F(6×6, 3×3) (Lavin & Gray, arXiv:1509.09308), whose filters are
transformed once, the first layer directly.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.ops import waiting
from fastnst.ops.buffers import DTYPES, POOLINGS, address, check_buffer
from fastnst.ops.extension import call, loaded

PRODUCTS = {**DTYPES, torch.int16: 2}  # the dtypes of products, as the kernels number them
PANEL = 16  # channels that the kernels keep together
# From so many pairs of channels on, both ways share their filters in float32. At 512 × 384 an
# evaluation of VGG-19 takes 0.4 % longer with 512 · 256 and 185 MB less, 2 to 3 % longer and 235 MB
# less with this, and about as long and 250 MB less with every layer shared.
SHARED = 256 * 256


@dataclass(frozen=True)
class Filters:
    """The filters of a layer, transformed for each size of tiles when it is first wanted.

    Attributes:
        weight: ``(Co, Ci, 3, 3)`` float32, contiguous.
        gradient: Whether they are those of the input gradient: flipped, from Co channels to Ci.
        dtype: The dtype of the products. Filters in float32 and int16 are for features in float32,
            those in bfloat16 for features in either.
        transposed: Whether the numbers are those of the way forward, to be read transposed.
    """

    weight: Tensor
    gradient: bool
    dtype: torch.dtype
    transposed: bool = False
    _transformed: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @property
    def channels_in(self) -> int:
        """Ci, the channels of the features to be convolved."""
        return self.weight.shape[0 if self.gradient else 1]

    @property
    def channels_out(self) -> int:
        """Co, the channels of the result."""
        return self.weight.shape[1 if self.gradient else 0]

    def transformed(self, tile: int) -> Tensor:
        """(tile + 2)² · Co · Ci numbers in the kernels' order, for tiles of that side."""
        if tile not in self._transformed:
            channels_out, channels_in = self.weight.shape[:2]
            numbers = channels_out * channels_in
            if self.dtype == torch.int16:  # the scales behind them are float32
                numbers += 2 * self.channels_out
            out = torch.empty((tile + 2) ** 2 * numbers, dtype=self.dtype, device="cpu")
            call(
                loaded().winograd_weights,
                tile,
                self.weight.data_ptr(),
                channels_out,
                channels_in,
                self.gradient and not self.transposed,
                PRODUCTS[self.dtype],
                out.data_ptr(),
                torch.get_num_threads(),
            )
            self._transformed[tile] = out
        return self._transformed[tile]

    def keep(self, tile: int) -> None:
        """Free the memory of those for tiles of another side."""
        for other in set(self._transformed) - {tile}:
            self._transformed.pop(other, None)

    def way_back(self, dtype: torch.dtype | None = None) -> Filters:
        """Those of the input gradient.

        Large ones in float32 are the same numbers in the same memory, if these are in float32 too.

        Args:
            dtype: The dtype of the products: float32, bfloat16 or int16; None: that of these.

        Raises:
            InvalidInput: ``dtype`` is another one.
        """
        dtype = self.dtype if dtype is None else dtype
        _check_dtype(dtype)
        channels_out, channels_in = self.weight.shape[:2]
        if dtype == self.dtype == torch.float32 and channels_out * channels_in >= SHARED:
            return Filters(self.weight, True, dtype, True, self._transformed)
        return Filters(self.weight, True, dtype)


def transform_filters(weight: Tensor, *, dtype: torch.dtype = torch.float32) -> Filters:
    """The filters of a layer, for any number of ``convolve`` calls.

    Args:
        weight: ``(Co, Ci, 3, 3)`` float32; Co and Ci multiples of 16. It must not change.
        dtype: The dtype of the products: float32 or int16, for features in float32; or bfloat16,
            for features in either.

    Returns:
        Those of the way forward; ``way_back`` of it, those of the input gradient, which is a
        convolution with flipped filters from Co channels to Ci.

    Raises:
        InvalidInput: a shape, type or layout is not as described.
    """
    _check_dtype(dtype)
    if weight.ndim != 4:
        raise InvalidInput(f"weight: expected shape (Co, Ci, 3, 3), got {tuple(weight.shape)}")
    channels_out, channels_in = weight.shape[:2]
    check_buffer("weight", weight, (channels_out, channels_in, 3, 3))
    if channels_out % PANEL or channels_in % PANEL:
        raise InvalidInput(
            f"weight: channels must be a multiple of {PANEL}, got {channels_out} and {channels_in}"
        )
    return Filters(weight, False, dtype)


def _check_dtype(dtype: torch.dtype) -> None:
    if dtype not in PRODUCTS:
        raise InvalidInput(f"dtype: expected float32, bfloat16 or int16, got {dtype}")


def convolve(
    x: Tensor,
    filters: Filters,
    bias: Tensor | None = None,
    *,
    x_positive: Tensor | None = None,
    mask: Tensor | None = None,
    relu: bool = False,
    pooling: str | None = None,
    preactivation: Tensor | None = None,
    out: Tensor | None = None,
    pooled: Tensor | None = None,
    positive: Tensor | None = None,
    tile: int | None = None,
    rows: slice | None = None,
) -> None:
    """out = mask(relu(W ∗ x + b)), where asked for, and its pooling.

    Average pooling and the ReLU before it need one bit of each feature on the way back. With
    ``positive`` and without ``out`` only those are written, and with ``x_positive`` the way back
    through both is done while x is read.

    Args:
        x: ``(B, H, W, Ci)``, in the dtype of the filters or in float32, like all that follows but
            the bias.
        filters: From ``transform_filters``, or their ``way_back``.
        bias: ``(Co,)`` float32, or None: zero.
        x_positive: ``(B, H, W, Ci // 8)`` uint8, as ``positive`` was written. x is then
            ``(B, H // 2, W // 2, Ci)``, and stands for a quarter of it at each position of its
            window where the bit is set, else zero: the gradient of average pooling and ReLU.
        mask: ``(B, H, W, Co)``: the result is zero where it is ≤ 0 (the derivative of ReLU).
        relu: Whether negative values become zero.
        pooling: ``average`` or ``max``, 2×2 with stride 2, into ``pooled``.
        preactivation: ``(B, H, W, Co)``, written: W ∗ x + b.
        out: ``(B, H, W, Co)``, written; None, with a pooling only: not wanted.
        pooled: ``(B, H // 2, W // 2, Co)``, written.
        positive: ``(B, H, W, Co // 8)`` uint8, written: bit c % 8 of number c // 8 says whether
            channel c of the result is > 0.
        tile: The side of Winograd's tiles, 4 or, for filters in float32, 6; None: the faster.
        rows: Which rows of the result are written, of a batch of 1 and with ``tile``: multiples of
            it, but for the last row of all. The rows before and after them are read. None: all.

    Raises:
        InvalidInput: a shape, type, device or layout is not as described.
        BackendUnavailable: the extension is not loaded, ``FASTNST_CPU_ISA`` cannot run here, or
            filters in bfloat16 without avx512bf16 or neonbf16, or in int16 without avx512vnni.
    """
    of_int16 = filters.dtype == torch.int16  # for features in float32 alone
    dtype = torch.float32 if x.dtype == torch.float32 or of_int16 else filters.dtype
    if x_positive is None:
        batch, height, width = _features("x", x, filters.channels_in, dtype)
    else:
        batch, height, width = _bits("x_positive", x_positive, filters.channels_in)
        check_buffer("x", x, (batch, height // 2, width // 2, filters.channels_in), dtype)
    channels = filters.channels_out
    shape = (batch, height, width, channels)
    for name, tensor in (("out", out), ("mask", mask), ("preactivation", preactivation)):
        if tensor is not None:
            check_buffer(name, tensor, shape, dtype)
    if positive is not None:
        check_buffer("positive", positive, (*shape[:3], channels // 8), torch.uint8)
    if out is None and pooled is None:
        raise InvalidInput("out: only with pooled it may be None")
    if bias is not None:
        check_buffer("bias", bias, (channels,))
    if pooling not in POOLINGS or (pooling is None) != (pooled is None):
        raise InvalidInput(f"pooling: expected average or max with pooled, got {pooling!r}")
    if pooled is not None:
        check_buffer("pooled", pooled, (batch, height // 2, width // 2, channels), dtype)
    sizes = (batch, height, width, filters.channels_in, channels)
    if tile is None:
        tile = choose_tile(filters.dtype, sizes)
    first, last = (0, height) if rows is None else (rows.start, rows.stop)
    transformed = filters.transformed(tile)  # which another thread may give up meanwhile
    waiting.look()
    call(
        loaded().winograd_convolution,
        DTYPES[dtype],
        PRODUCTS[filters.dtype],
        tile,
        sizes,
        (first, last),
        x.data_ptr(),
        address(x_positive),
        transformed.data_ptr(),
        filters.transposed,
        address(bias),
        address(mask),
        relu,
        POOLINGS[pooling],
        address(preactivation),
        address(out),
        address(pooled),
        address(positive),
        torch.get_num_threads(),
    )


def choose_tile(dtype: torch.dtype, sizes: tuple[int, int, int, int, int]) -> int:
    """The side of Winograd's tiles, 4 or 6, that takes less time for a convolution.

    Args:
        dtype: The dtype of the products: float32, bfloat16 or int16.
        sizes: Batch, height, width, Ci, Co.

    Raises:
        InvalidInput: a size is less than 1.
        BackendUnavailable: the extension is not loaded.
    """
    tile: int = call(loaded().winograd_tile, PRODUCTS[dtype], sizes)
    return tile


# --------------------------------------------------------------------------------- first layer --


@dataclass(frozen=True)
class ImageFilters:
    """The filters of the first layer in the kernels' order.

    Attributes:
        channels: Co.
        forward: ``(Co / 16, 27, 16)``, taps in the order (c, u, v).
        gradient: ``(2, Co, 16)``, columns in the order (u, v, c), then five zeros.
    """

    channels: int
    forward: Tensor
    gradient: Tensor


def arrange_image_filters(weight: Tensor) -> ImageFilters:
    """Arrange the filters ``(Co, 3, 3, 3)`` of the first layer; Co is a multiple of 16.

    Raises:
        InvalidInput: a shape, type or layout is not as described.
    """
    channels = weight.shape[0]
    check_buffer("weight", weight, (channels, 3, 3, 3))
    if channels % PANEL:
        raise InvalidInput(f"weight: expected a multiple of {PANEL} filters, got {channels}")
    forward = weight.view(-1, PANEL, 27).transpose(1, 2).contiguous()
    columns = weight.new_zeros(channels, 2 * PANEL)
    columns[:, :27] = weight.permute(0, 2, 3, 1).reshape(channels, 27)
    gradient = columns.view(channels, 2, PANEL).transpose(0, 1).contiguous()
    return ImageFilters(channels, forward, gradient)


def convolve_image(
    image: Tensor,
    filters: ImageFilters,
    bias: Tensor,
    *,
    preactivation: Tensor | None = None,
    out: Tensor,
) -> None:
    """out = relu(W ∗ image + b), the first layer.

    Args:
        image: ``(B, 3, H, W)`` float32, contiguous.
        filters: From ``arrange_image_filters``.
        bias: ``(Co,)``.
        preactivation: ``(B, H, W, Co)``, written: W ∗ image + b; dtype of ``out``.
        out: ``(B, H, W, Co)`` float32 or bfloat16, written.

    Raises:
        InvalidInput: a shape, type, device or layout is not as described.
        BackendUnavailable: the extension is not loaded, or ``FASTNST_CPU_ISA`` cannot run here.
    """
    batch, _, height, width = _image("image", image)
    dtype = _dtype("out", out)
    shape = (batch, height, width, filters.channels)
    check_buffer("bias", bias, (filters.channels,))
    check_buffer("out", out, shape, dtype)
    if preactivation is not None:
        check_buffer("preactivation", preactivation, shape, dtype)
    call(
        loaded().image_convolution,
        DTYPES[dtype],
        (batch, height, width, 3, filters.channels),
        image.data_ptr(),
        filters.forward.data_ptr(),
        bias.data_ptr(),
        address(preactivation),
        out.data_ptr(),
        torch.get_num_threads(),
    )


def image_gradient(gradient: Tensor, filters: ImageFilters, *, out: Tensor) -> None:
    """The gradient with respect to the image, from that with respect to the first preactivation.

    Args:
        gradient: ``(B, H, W, Co)`` float32 or bfloat16.
        filters: From ``arrange_image_filters``.
        out: ``(B, 3, H, W)`` float32, written.

    Raises:
        InvalidInput: a shape, type, device or layout is not as described.
        BackendUnavailable: the extension is not loaded, or ``FASTNST_CPU_ISA`` cannot run here.
    """
    dtype = _dtype("gradient", gradient)
    batch, height, width = _features("gradient", gradient, filters.channels, dtype)
    check_buffer("out", out, (batch, 3, height, width))
    call(
        loaded().image_gradient,
        DTYPES[dtype],
        (batch, height, width, filters.channels, 3),
        gradient.data_ptr(),
        filters.gradient.data_ptr(),
        out.data_ptr(),
        torch.get_num_threads(),
    )


# ------------------------------------------------------------------------------------- pooling --


def unpool(
    pooled: Tensor, features: Tensor, pooling: str, *, relu_mask: bool = False, out: Tensor
) -> None:
    """The gradient of 2×2 pooling and, with ``relu_mask``, of the ReLU before it.

    Args:
        pooled: ``(B, H // 2, W // 2, C)``, the gradient with respect to the pooled features.
        features: ``(B, H, W, C)`` float32 or bfloat16, like the others: what was pooled; H, W ≥ 2.
        pooling: ``average``, or ``max``: the first largest of a window takes all, as in PyTorch.
        relu_mask: Whether to leave the gradient zero where features ≤ 0.
        out: ``(B, H, W, C)``, written.

    Raises:
        InvalidInput: a shape, type, device or layout is not as described.
        BackendUnavailable: the extension is not loaded, or ``FASTNST_CPU_ISA`` cannot run here.
    """
    dtype = _dtype("features", features)
    batch, height, width = _features("features", features, features.shape[-1], dtype)
    channels = features.shape[-1]
    if pooling not in ("average", "max"):
        raise InvalidInput(f"pooling: expected average or max, got {pooling!r}")
    check_buffer("pooled", pooled, (batch, height // 2, width // 2, channels), dtype)
    check_buffer("out", out, (batch, height, width, channels), dtype)
    call(
        loaded().unpool,
        DTYPES[dtype],
        (batch, height, width, channels, channels),
        pooled.data_ptr(),
        features.data_ptr(),
        POOLINGS[pooling],
        relu_mask,
        out.data_ptr(),
        torch.get_num_threads(),
    )


def _dtype(name: str, x: Tensor) -> torch.dtype:
    if x.dtype not in DTYPES:
        raise InvalidInput(f"{name}: expected float32 or bfloat16, got {x.dtype}")
    return x.dtype


def _features(name: str, x: Tensor, channels: int, dtype: torch.dtype) -> tuple[int, int, int]:
    if x.ndim != 4:
        raise InvalidInput(f"{name}: expected shape (B, H, W, C), got {tuple(x.shape)}")
    check_buffer(name, x, (*x.shape[:3], channels), dtype)
    return x.shape[0], x.shape[1], x.shape[2]


def _bits(name: str, x: Tensor, channels: int) -> tuple[int, int, int]:
    if x.ndim != 4:
        raise InvalidInput(f"{name}: expected shape (B, H, W, C // 8), got {tuple(x.shape)}")
    check_buffer(name, x, (*x.shape[:3], channels // 8), torch.uint8)
    return x.shape[0], x.shape[1], x.shape[2]


def _image(name: str, x: Tensor) -> tuple[int, int, int, int]:
    if x.ndim != 4:
        raise InvalidInput(f"{name}: expected shape (B, 3, H, W), got {tuple(x.shape)}")
    check_buffer(name, x, (x.shape[0], 3, *x.shape[2:]))
    return x.shape[0], 3, x.shape[2], x.shape[3]
