"""The compiled convolutions and their twins against the definition in float64, on every ISA."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.ops import convolution, extension, reference
from helpers import kernel_oracle as oracle
from helpers.kernels import needs_native

pytestmark = needs_native

# Winograd adds and subtracts numbers larger than the result's parts, then sums 512 products. With
# tiles of 4×4 its matrices have entries up to 2.9, with tiles of 6×6 up to 5.25 and, in the output,
# 32: errors of about 20 and 80 roundings of 6e-8; in practice 1e-6 and 4e-6.
LAYER = 1e-5

SHAPES = [  # B, H, W, Ci, Co
    (1, 1, 1, 16, 16),  # one position: all border
    (1, 4, 4, 16, 16),  # one tile
    (1, 5, 3, 32, 16),
    (2, 9, 6, 16, 48),  # a batch, and three panels of output channels
    (3, 2, 2, 48, 80),
    (1, 13, 17, 64, 64),
    (1, 33, 3, 128, 80),
    (1, 61, 75, 64, 64),  # several blocks of tiles
    (1, 31, 40, 256, 512),
    (1, 10, 10, 512, 512),  # blocks that all threads share
    (1, 50, 46, 512, 64),  # several of them
    (1, 9, 14, 528, 544),  # more channels than are transformed at a time
]
TILES = [4, 6]


def definition(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[i, j, o] = b[o] + Σ_u Σ_v Σ_c W[o, c, u, v] · x[i+u−1, j+v−1, c], float64, zero outside."""
    batch, height, width, _ = x.shape
    padded = x.new_zeros(batch, height + 2, width + 2, x.shape[3], dtype=torch.float64)
    padded[:, 1:-1, 1:-1] = x.double()
    y = padded.new_zeros(batch, height, width, weight.shape[0])
    for u in range(3):
        for v in range(3):
            shifted = padded[:, u : u + height, v : v + width]
            y += torch.einsum("bhwc,oc->bhwo", shifted, weight[:, :, u, v].double())
    return y if bias is None else y + bias.double()


def transposed(gradient: Tensor, weight: Tensor) -> Tensor:
    """dx[i+u−1, j+v−1, c] += Σ_o W[o, c, u, v] · g[i, j, o], float64."""
    batch, height, width, _ = gradient.shape
    padded = gradient.new_zeros(batch, height + 2, width + 2, weight.shape[1], dtype=torch.float64)
    for u in range(3):
        for v in range(3):
            padded[:, u : u + height, v : v + width] += torch.einsum(
                "bhwo,oc->bhwc", gradient.double(), weight[:, :, u, v].double()
            )
    return padded[:, 1:-1, 1:-1]


def unwritten(*shape: int) -> Tensor:
    """Where a forgotten element shows."""
    return torch.full(shape, float("nan"))


def layer(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    batch, height, width, channels_in, channels_out = shape
    x = torch.randn(batch, height, width, channels_in).relu_()
    weight = torch.randn(channels_out, channels_in, 3, 3) / (9 * channels_in) ** 0.5
    return x, weight, torch.randn(channels_out) * 0.1


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward(shape: tuple[int, ...], tile: int, isa: str) -> None:
    x, weight, bias = layer(shape)
    out, preactivation = unwritten(*x.shape[:3], shape[4]), unwritten(*x.shape[:3], shape[4])
    filters = convolution.transform_filters(weight)
    convolution.convolve(
        x, filters, bias, relu=True, preactivation=preactivation, out=out, tile=tile
    )
    truth = definition(x, weight, bias)
    assert oracle.error(preactivation, truth) <= LAYER
    assert torch.equal(out, preactivation.relu())
    assert oracle.error(reference.convolve(x, weight, bias, relu=True), truth.relu()) <= LAYER


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shared", [False, True])
def test_input_gradient(
    shape: tuple[int, ...], tile: int, shared: bool, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight, _ = layer(shape)
    gradient = torch.randn(*x.shape[:3], shape[4])
    out, preactivation = unwritten(*x.shape), unwritten(*x.shape)
    monkeypatch.setattr(convolution, "SHARED", 0 if shared else math.inf)
    forward = convolution.transform_filters(weight)
    filters = forward.way_back()
    assert (filters.transformed(tile) is forward.transformed(tile)) == shared
    convolution.convolve(gradient, filters, mask=x, preactivation=preactivation, out=out, tile=tile)
    truth = transposed(gradient, weight)
    assert oracle.error(out, truth * (x > 0)) <= LAYER
    assert oracle.error(preactivation, truth) <= LAYER
    assert oracle.error(reference.input_gradient(gradient, weight), truth) <= LAYER


def unpack(positive: Tensor) -> Tensor:
    """Bits ``(B, H, W, C // 8)`` as booleans ``(B, H, W, C)``."""
    bits = positive[..., None] >> torch.arange(8, dtype=torch.uint8) & 1
    return bits.bool().flatten(-2)


@pytest.mark.parametrize(
    ("dtype", "products"),
    [
        (torch.float32, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.bfloat16, torch.bfloat16),
    ],
)
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if min(shape[1:3]) > 1])
def test_average_pooling_by_bits(
    shape: tuple[int, ...],
    tile: int,
    dtype: torch.dtype,
    products: torch.dtype,
    isa: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same as with the features themselves, bit for bit, both ways."""
    if products == torch.bfloat16 and (tile != 4 or not extension.convolves_bfloat16()):
        pytest.skip("no such kernel")
    batch, height, width, _, channels_out = shape
    x, weight, bias = layer(shape)
    x = x.to(dtype)
    filters = convolution.transform_filters(weight, dtype=products)
    out = unwritten(batch, height, width, channels_out).to(dtype)
    pooled, alone = (
        unwritten(batch, height // 2, width // 2, channels_out).to(dtype) for _ in range(2)
    )
    signs = [
        torch.full((batch, height, width, channels_out // 8), fill, dtype=torch.uint8)
        for fill in (0, 255)
    ]
    forward = {"relu": True, "pooling": "average", "tile": tile}
    convolution.convolve(x, filters, bias, out=out, pooled=pooled, positive=signs[0], **forward)
    convolution.convolve(x, filters, bias, pooled=alone, positive=signs[1], **forward)
    assert torch.equal(alone, pooled)
    for positive in signs:
        assert torch.equal(unpack(positive), out > 0)

    gradient = torch.randn(pooled.shape).to(dtype)
    unpooled = unwritten(*out.shape).to(dtype)
    convolution.unpool(gradient, out, "average", relu_mask=True, out=unpooled)
    for shared in (0, math.inf):
        monkeypatch.setattr(convolution, "SHARED", shared)
        back = filters.way_back()
        expected, found = (unwritten(*x.shape).to(dtype) for _ in range(2))
        convolution.convolve(unpooled, back, mask=x, out=expected, tile=tile)
        convolution.convolve(gradient, back, x_positive=signs[0], mask=x, out=found, tile=tile)
        assert torch.equal(found, expected)


# In bfloat16 both transformed patches and filters are rounded to 8 bits (a relative error of 2⁻⁹ at
# most, 0.0024 for the two and the result in a direct convolution), and the output transform, which
# adds numbers larger than the result, makes about four times as much of it.
LAYER_BF16 = 2e-2


@pytest.fixture
def bfloat16(isa: str) -> None:
    if not extension.convolves_bfloat16():
        pytest.skip(f"{isa} has no bfloat16 products")


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16(shape: tuple[int, ...], isa: str, bfloat16: None) -> None:
    x, weight, bias = layer(shape)
    x = x.bfloat16()
    out, preactivation = (unwritten(*x.shape[:3], shape[4]).bfloat16() for _ in range(2))
    filters = convolution.transform_filters(weight, dtype=torch.bfloat16)
    convolution.convolve(x, filters, bias, relu=True, preactivation=preactivation, out=out)
    assert oracle.error(preactivation, definition(x, weight, bias)) <= LAYER_BF16
    assert torch.equal(out, preactivation.relu())
    if min(shape[1:3]) > 1:
        pooled = unwritten(shape[0], shape[1] // 2, shape[2] // 2, shape[4]).bfloat16()
        convolution.convolve(x, filters, bias, relu=True, pooling="max", out=out, pooled=pooled)
        assert torch.equal(pooled, reference.pool(out.float(), "max").bfloat16())

    gradient = torch.randn(out.shape).bfloat16()
    back = unwritten(*x.shape).bfloat16()
    filters = filters.way_back()
    convolution.convolve(gradient, filters, mask=x, out=back)
    assert oracle.error(back, transposed(gradient, weight) * (x > 0)) <= LAYER_BF16


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_products_of_float32(shape: tuple[int, ...], isa: str, bfloat16: None) -> None:
    x, weight, bias = layer(shape)
    filters = convolution.transform_filters(weight, dtype=torch.bfloat16)
    way_back = convolution.transform_filters(weight).way_back(torch.bfloat16)
    out, preactivation = (unwritten(*x.shape[:3], shape[4]) for _ in range(2))
    convolution.convolve(x, filters, bias, relu=True, preactivation=preactivation, out=out)
    assert oracle.error(preactivation, definition(x, weight, bias)) <= LAYER_BF16
    assert torch.equal(out, preactivation.relu())
    gradient, back = torch.randn(out.shape), unwritten(*x.shape)
    convolution.convolve(gradient, way_back, mask=x, out=back)
    assert oracle.error(back, transposed(gradient, weight) * (x > 0)) <= LAYER_BF16

    # features that are numbers of bfloat16: the same patches and products, and one rounding less
    x, gradient = x.bfloat16(), gradient.bfloat16()
    for features, transformed, mask in ((x, filters, None), (gradient, way_back, x)):
        shape_out = (*shape[:3], transformed.channels_out)
        rounded, exact = unwritten(*shape_out).bfloat16(), unwritten(*shape_out)
        convolution.convolve(features, transformed, mask=mask, out=rounded)
        mask = None if mask is None else mask.float()
        convolution.convolve(features.float(), transformed, mask=mask, out=exact)
        assert torch.equal(exact.bfloat16(), rounded)
        assert not torch.equal(exact, rounded.float())


# In integers of 16 bits the numbers of patches and of filters are some thousand on average: a
# roundoff of 1e-4, of which the output transform makes three times as much.
LAYER_INT16 = 1e-3


@pytest.fixture
def integers(isa: str) -> None:
    if not extension.multiplies_integers():
        pytest.skip(f"{isa} here has no products of int16")


@pytest.mark.parametrize("shape", SHAPES)
def test_int16_products(shape: tuple[int, ...], isa: str, integers: None) -> None:
    x, weight, bias = layer(shape)
    forward = convolution.transform_filters(weight, dtype=torch.int16)
    out, preactivation = (unwritten(*x.shape[:3], shape[4]) for _ in range(2))
    convolution.convolve(x, forward, bias, relu=True, preactivation=preactivation, out=out)
    assert oracle.error(preactivation, definition(x, weight, bias)) <= LAYER_INT16
    assert torch.equal(out, preactivation.relu())
    gradient = torch.randn(out.shape) * 1e-9
    back = unwritten(*x.shape)
    filters = convolution.transform_filters(weight).way_back(torch.int16)
    convolution.convolve(gradient, filters, mask=x, out=back)
    truth = transposed(gradient, weight) * (x > 0)
    assert 1e-5 < oracle.error(back, truth) <= LAYER_INT16 or not truth.any()


def test_int16_products_have_the_same_bits_for_any_number_of_threads(
    isa: str, integers: None
) -> None:
    threads = torch.get_num_threads()
    for shape in ((1, 61, 75, 64, 64), (1, 10, 10, 512, 512)):
        x, weight, _ = layer(shape)
        filters = convolution.transform_filters(weight).way_back(torch.int16)
        gradient, found = torch.randn(*x.shape[:3], shape[4]), []
        try:
            for number in (1, 3):
                torch.set_num_threads(number)
                found.append(unwritten(*x.shape))
                convolution.convolve(gradient, filters, out=found[-1])
        finally:
            torch.set_num_threads(threads)
        assert torch.equal(*found)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if min(shape[1:3]) > 1])
def test_int16_products_of_a_pooled_gradient(
    shape: tuple[int, ...], isa: str, integers: None
) -> None:
    batch, height, width, _, channels_out = shape
    x, weight, bias = layer(shape)
    pooled = unwritten(batch, height // 2, width // 2, channels_out)
    positive = torch.empty(batch, height, width, channels_out // 8, dtype=torch.uint8)
    filters = convolution.transform_filters(weight)
    convolution.convolve(
        x, filters, bias, relu=True, pooling="average", pooled=pooled, positive=positive
    )
    gradient, out = torch.randn(pooled.shape), unwritten(*x.shape)
    convolution.convolve(gradient, filters.way_back(torch.int16), x_positive=positive, out=out)
    spread = torch.zeros(batch, height, width, channels_out)
    windows = gradient.repeat_interleave(2, 1).repeat_interleave(2, 2) / 4
    spread[:, : windows.shape[1], : windows.shape[2]] = windows
    truth = transposed(spread * unpack(positive), weight)
    assert oracle.error(out, truth) <= LAYER_INT16


TABLE = (Path(__file__).parents[2] / "csrc/cpu/kernels/table.h").read_text()


def constant(name: str) -> int:
    """A number of the kernels' header."""
    found = re.search(rf"{name} = (\d+)[,;]", TABLE)
    assert found, name
    return int(found[1])


# Of patches and filters, before rounding.
LENGTHS = constant("kPatchLength"), constant("kFilterLength")


def test_lengths_of_integers_bound_their_sums() -> None:
    """By Cauchy and Schwarz, with what rounding a group's numbers can add to a length."""
    assert constant("kIntegerChannels") == 128
    rounding = 0.5 * math.sqrt(128)
    assert math.prod(length + rounding for length in LENGTHS) < 2**31
    assert LENGTHS[0] + 0.5 < 2**15  # a patch may have one channel only


@pytest.mark.parametrize("channels", [(16, 512), (512, 16), (512, 512), (16, 144)])
def test_no_sum_of_int16_products_can_exceed_32_bits(
    channels: tuple[int, int], isa: str, integers: None
) -> None:
    """The lengths of filters, read off the numbers, and the worst pictures that there are."""
    torch.manual_seed(0)
    channels_out, channels_in = channels
    lengths = []
    for weight in (torch.ones(*channels, 3, 3), torch.randn(*channels, 3, 3) ** 5):
        filters = convolution.transform_filters(weight, dtype=torch.int16)
        numbers = filters.transformed(4)[: 36 * channels_out * channels_in]
        for panels in numbers.split(36 * 64 * channels_in):
            u = panels.view(36, -1, channels_in // 2, 16, 2)  # k, panel, pairs of ci, co, pair
            assert int(u.long().abs().max()) <= 32767
            for group in u.double().split(64, dim=2):
                lengths.append(float(group.square().sum((2, 4)).max().sqrt()))
    most = LENGTHS[1] + 0.5 * math.sqrt(128)
    assert max(lengths) <= most
    assert max(lengths) >= 0.98 * most or channels_in == 16
    # patches along the filters, where a sum is the product of the lengths
    for scale in (1.0, 1e17, 1e-17, 1e30):
        x = torch.full((1, 13, 13, channels_in), scale)
        weight, out = torch.full((*channels, 3, 3), 1e-2), unwritten(1, 13, 13, channels_out)
        convolution.convolve(x, convolution.transform_filters(weight, dtype=torch.int16), out=out)
        assert oracle.error(out, definition(x, weight)) <= LAYER_INT16
    # one channel that has all of a patch's length
    x = torch.zeros(1, 13, 13, channels_in)
    x[..., 5] = torch.rand(13, 13)
    out = unwritten(1, 13, 13, channels_out)
    convolution.convolve(x, convolution.transform_filters(weight, dtype=torch.int16), out=out)
    assert oracle.error(out, definition(x, weight)) <= LAYER_INT16


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 3e38, 1e34])
def test_what_is_not_finite_stays_so_in_int16(bad: float, isa: str, integers: None) -> None:
    x, weight, _ = layer((1, 40, 40, 16, 32))
    filters = convolution.transform_filters(weight, dtype=torch.int16)
    whole, out = unwritten(1, 40, 40, 32), unwritten(1, 40, 40, 32)
    convolution.convolve(x, filters, out=whole)
    x[0, 20, 20, 3] = bad
    convolution.convolve(x, filters, out=out)
    assert not out[0, 19:22, 19:22].isfinite().any()
    assert torch.equal(out[0, :10], whole[0, :10])


@pytest.mark.parametrize("channels", [16, 144, 256])
def test_a_filter_that_is_not_finite_spoils_its_output_in_int16(
    channels: int, isa: str, integers: None
) -> None:
    x, weight, _ = layer((1, 9, 9, channels, 32))
    weight[3, 2, 1, 1] = math.nan
    out = unwritten(1, 9, 9, 32)
    convolution.convolve(x, convolution.transform_filters(weight, dtype=torch.int16), out=out)
    assert out[..., 3].isnan().all()
    assert out[..., :3].isfinite().all()


def test_a_patch_of_zeros_is_nothing_in_int16(isa: str, integers: None) -> None:
    """Beside one that is not, and beside tiny ones, whose squares are no floats."""
    x, weight, _ = layer((1, 20, 20, 256, 32))
    x[:, :9] = 0
    x[:, 9:, :, 128:] *= 1e-25
    out = unwritten(1, 20, 20, 32)
    convolution.convolve(x, convolution.transform_filters(weight, dtype=torch.int16), out=out)
    assert oracle.error(out, definition(x, weight)) <= LAYER_INT16
    assert not out[:, :4].any()
    few, first = x[..., 128:].contiguous(), weight[:, 128:].contiguous()
    convolution.convolve(few, convolution.transform_filters(first, dtype=torch.int16), out=out)
    assert oracle.error(out, definition(few, first)) <= LAYER_INT16


@pytest.mark.parametrize("scale", [0.0, 1e-42, 1e-38, 1e-30, 1e30])
def test_int16_products_of_any_size(scale: float, isa: str, integers: None) -> None:
    x, weight, _ = layer((1, 9, 9, 16, 16))
    x = x * scale
    out = unwritten(1, 9, 9, 16)
    convolution.convolve(x, convolution.transform_filters(weight, dtype=torch.int16), out=out)
    assert out.isfinite().all()
    if scale >= 1e-30:  # numbers that are nearly no float are nothing
        assert oracle.error(out, definition(x, weight)) <= LAYER_INT16


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("size", [(2, 2), (5, 9), (13, 30)])
def test_pooling_of_bfloat16_products(
    size: tuple[int, int], pooling: str, isa: str, bfloat16: None
) -> None:
    x, weight, bias = layer((2, *size, 16, 32))
    out, pooled = unwritten(2, *size, 32), unwritten(2, size[0] // 2, size[1] // 2, 32)
    filters = convolution.transform_filters(weight, dtype=torch.bfloat16)
    convolution.convolve(x, filters, bias, relu=True, pooling=pooling, out=out, pooled=pooled)
    torch.testing.assert_close(pooled, reference.pool(out, pooling), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_first_layer_and_unpooling_in_bfloat16(pooling: str, isa: str) -> None:
    """They multiply in float32 and round once: every instruction set has them."""
    image, weight, bias = torch.randn(1, 3, 9, 14), torch.randn(32, 3, 3, 3), torch.randn(32)
    filters = convolution.arrange_image_filters(weight)
    exact, rounded = unwritten(1, 9, 14, 32), unwritten(1, 9, 14, 32).bfloat16()
    convolution.convolve_image(image, filters, bias, out=exact)
    convolution.convolve_image(image, filters, bias, out=rounded)
    assert torch.equal(rounded, exact.bfloat16())

    back, expected = unwritten(1, 3, 9, 14), unwritten(1, 3, 9, 14)
    convolution.image_gradient(rounded, filters, out=back)
    convolution.image_gradient(rounded.float(), filters, out=expected)
    assert torch.equal(back, expected)

    gradient = torch.randn(1, 4, 7, 32).bfloat16()
    spread = unwritten(1, 9, 14, 32).bfloat16()
    convolution.unpool(gradient, rounded, pooling, relu_mask=True, out=spread)
    truth = reference.unpool(gradient.float(), rounded.float(), pooling, relu_mask=True)
    assert torch.equal(spread, truth.bfloat16())


def test_bfloat16_where_it_cannot_be_is_named() -> None:
    filters = convolution.transform_filters(torch.zeros(16, 16, 3, 3), dtype=torch.bfloat16)
    x, out = torch.zeros(2, 1, 4, 4, 16, dtype=torch.bfloat16)
    with (
        extension.use_isa("scalar"),
        pytest.raises(BackendUnavailable, match="avx512bf16, not scal"),
    ):
        convolution.convolve(x, filters, out=out)
    with (
        extension.use_isa("scalar"),
        pytest.raises(BackendUnavailable, match="avx512bf16, not scal"),
    ):
        convolution.convolve(x.float(), filters, out=out.float())
    with pytest.raises(InvalidInput, match="dtype: expected float32, bfloat16 or int16"):
        convolution.transform_filters(torch.zeros(16, 16, 3, 3), dtype=torch.float16)
    with pytest.raises(InvalidInput, match="dtype: expected float32, bfloat16 or int16"):
        filters.way_back(torch.float16)


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("size", [(2, 2), (3, 5), (6, 9), (8, 8), (13, 30)])
@pytest.mark.parametrize("tile", TILES)
def test_pooling_and_its_gradient(size: tuple[int, int], tile: int, pooling: str, isa: str) -> None:
    x, weight, bias = layer((2, *size, 16, 32))
    height, width = size
    out, pooled = unwritten(2, *size, 32), unwritten(2, height // 2, width // 2, 32)
    filters = convolution.transform_filters(weight)
    convolution.convolve(
        x, filters, bias, relu=True, pooling=pooling, out=out, pooled=pooled, tile=tile
    )
    torch.testing.assert_close(pooled, reference.pool(out, pooling), rtol=1e-6, atol=1e-6)

    gradient = torch.randn_like(pooled)
    ties = out.mul(3).round()  # many equal values: the first largest of a window takes all
    for features in (out, ties, -ties):
        for relu_mask in (False, True):
            back = unwritten(*out.shape)
            convolution.unpool(gradient, features, pooling, relu_mask=relu_mask, out=back)
            truth = reference.unpool(gradient, features, pooling, relu_mask=relu_mask)
            assert torch.equal(back, truth)


@pytest.mark.parametrize("channels", [16, 64, 80])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 5), (33, 101)])
def test_first_layer(size: tuple[int, int], channels: int, isa: str) -> None:
    image = torch.randn(2, 3, *size) * 60
    weight, bias = torch.randn(channels, 3, 3, 3), torch.randn(channels)
    filters = convolution.arrange_image_filters(weight)
    out, preactivation = unwritten(2, *size, channels), unwritten(2, *size, channels)
    convolution.convolve_image(image, filters, bias, preactivation=preactivation, out=out)
    truth = definition(image.permute(0, 2, 3, 1), weight, bias)
    assert oracle.error(preactivation, truth) <= 1e-6  # 27 products
    assert torch.equal(out, preactivation.relu())

    gradient, back = torch.randn_like(out), unwritten(2, 3, *size)
    convolution.image_gradient(gradient, filters, out=back)
    truth = transposed(gradient, weight).permute(0, 3, 1, 2)
    assert oracle.error(back, truth) <= 1e-6


def test_the_same_bits_for_every_number_of_threads(threads: None, isa: str) -> None:
    results = []
    shapes = ((1, 61, 75, 64, 64), (1, 18, 14, 512, 128), (1, 5, 5, 256, 16))
    for count in (1, 2, 3, 8):
        torch.set_num_threads(count)
        torch.manual_seed(0)
        found = []
        for shape, tile in itertools.product(shapes, TILES):
            x, weight, bias = layer(shape)
            out = unwritten(*x.shape[:3], shape[4])
            pooled = unwritten(1, shape[1] // 2, shape[2] // 2, shape[4])
            filters = convolution.transform_filters(weight)
            convolution.convolve(
                x, filters, bias, relu=True, pooling="average", out=out, pooled=pooled, tile=tile
            )
            found += [filters.transformed(tile), out, pooled]
        results.append(found)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("shape", [(1, 61, 21, 64, 64), (1, 50, 14, 512, 128)])
@pytest.mark.parametrize("tile", TILES)
def test_some_rows_have_the_bits_of_all(tile: int, shape: tuple[int, ...], isa: str) -> None:
    """Of the way forward and of the way back through a pooling; other rows stay as they are."""
    _, height, width, channels_in, channels = shape
    x, weight, bias = layer(shape)
    filters = convolution.transform_filters(weight)
    gradient = torch.randn(1, height // 2, width // 2, channels)
    signs = torch.randint(0, 256, (1, height, width, channels // 8), dtype=torch.uint8)

    def compute(rows: slice | None, x: Tensor, gradient: Tensor) -> dict[str, Tensor]:
        names = "out", "pooled", "positive", "back"
        shapes = (height, width), (height // 2, width // 2), (height, width), (height, width)
        found = {name: torch.zeros(1, *size, channels) for name, size in zip(names, shapes)}  # noqa: B905
        found["positive"] = torch.zeros_like(signs)
        found["back"] = torch.zeros(1, height, width, channels_in)
        convolution.convolve(
            x, filters, bias, relu=True, pooling="max", tile=tile, rows=rows,
            out=found["out"], pooled=found["pooled"], positive=found["positive"],
        )  # fmt: skip
        convolution.convolve(
            gradient, filters.way_back(), x_positive=signs, tile=tile, rows=rows, out=found["back"]
        )
        return found

    whole = compute(None, x, gradient)
    for first, last in ((0, 2 * tile), (2 * tile, 3 * tile), (tile, height), (0, height)):
        x_seen, gradient_seen = x.clone(), gradient.clone()
        # More than a row away nothing is read: what is there may be anything.
        for seen, low, high in (
            (x_seen, first - 1, last + 1), (gradient_seen, (first - 1) // 2, last // 2 + 1)
        ):  # fmt: skip
            seen[:, : max(low, 0)] = math.nan
            seen[:, high:] = math.nan
        part = compute(slice(first, last), x_seen, gradient_seen)
        for name, all_rows in whole.items():
            halved = 2 if name == "pooled" else 1
            own = slice(first // halved, last // halved)
            assert torch.equal(part[name][:, own], all_rows[:, own])
            part[name][:, own] = 0
            assert not part[name].any()


@pytest.mark.parametrize("channels", [64, 144, 256, 512])
def test_some_rows_have_the_bits_of_all_in_int16(channels: int, isa: str, integers: None) -> None:
    """Also of more than one group of channels, whose sums are added as floats.

    A row has five tiles, so that tiles lie at other places of a register tile of six.
    """
    x, weight, bias = layer((1, 40, 18, channels, 64))
    filters = convolution.transform_filters(weight, dtype=torch.int16)
    whole = unwritten(1, 40, 18, 64)
    convolution.convolve(x, filters, bias, relu=True, out=whole)
    for first, last in ((0, 4), (4, 16), (8, 40), (12, 36), (36, 40)):
        part = unwritten(1, 40, 18, 64)
        convolution.convolve(x, filters, bias, relu=True, rows=slice(first, last), out=part)
        assert torch.equal(part[:, first:last], whole[:, first:last])


def test_rows_that_are_no_whole_tiles(isa: str) -> None:
    x, weight, bias = layer((2, 13, 9, 16, 16))
    filters, out = convolution.transform_filters(weight), unwritten(2, 13, 9, 16)
    said = "rows: expected a batch of 1 and whole tiles"
    for batch, first, last in ((2, 0, 6), (1, 1, 6), (1, 0, 5), (1, 6, 6), (1, 0, 18), (1, -6, 6)):
        with pytest.raises(InvalidInput, match=said):
            convolution.convolve(
                x[:batch], filters, bias, tile=6, rows=slice(first, last), out=out[:batch]
            )


@pytest.mark.parametrize("tile", TILES)
def test_nothing_beyond_the_output_is_written(tile: int, isa: str) -> None:
    x, weight, bias = layer((1, 7, 9, 16, 16))
    memory = torch.full((2 + 7 * 9, 16), 5.0)
    out = memory[1:-1].view(1, 7, 9, 16)
    convolution.convolve(x, convolution.transform_filters(weight), bias, out=out, tile=tile)
    assert torch.equal(memory[[0, -1]], torch.full((2, 16), 5.0))


@pytest.mark.parametrize("tile", TILES)
def test_nan_stays_nan(tile: int, isa: str) -> None:
    x, weight, bias = layer((1, 6, 6, 16, 16))
    x[0, 3, 3, 5] = float("nan")
    out = torch.zeros(1, 6, 6, 16)
    convolution.convolve(
        x, convolution.transform_filters(weight), bias, relu=True, out=out, tile=tile
    )
    assert out[0, 3, 3].isnan().all()


def test_the_tile_follows_the_size(isa: str) -> None:
    """Small pictures would waste much of tiles of 6×6; in 16 bits their error would show."""
    x, weight, bias = layer((1, 100, 96, 16, 16))
    filters = convolution.transform_filters(weight)
    found, expected = unwritten(1, 100, 96, 16), unwritten(1, 100, 96, 16)
    for size, tile in ((slice(0, 100), 6), (slice(0, 7), 4)):
        part, out = x[:, size], found[:, size]
        convolution.convolve(part, filters, bias, out=out)
        convolution.convolve(part, filters, bias, out=expected[:, size], tile=tile)
        assert torch.equal(out, expected[:, size])
    has = {
        torch.bfloat16: extension.convolves_bfloat16(),
        torch.int16: extension.multiplies_integers(),
    }
    for dtype in (dtype for dtype, here in has.items() if here):
        few, out = torch.zeros(2, 1, 4, 4, 16)
        rounded = convolution.transform_filters(weight, dtype=dtype)
        with pytest.raises(InvalidInput, match="tile: expected 4 for bfloat16 and int16"):
            convolution.convolve(few, rounded, out=out, tile=6)
    with pytest.raises(InvalidInput, match="tile: expected 4 or 6"):
        convolution.convolve(x, filters, out=expected, tile=5)


# A float32 tensor from 16 MiB on is written past the caches; 513×130×64 is one.
def test_large_outputs(isa: str) -> None:
    x, weight, bias = layer((1, 513, 130, 16, 64))
    out, pooled = unwritten(1, 513, 130, 64), unwritten(1, 256, 65, 64)
    filters = convolution.transform_filters(weight)
    convolution.convolve(x, filters, bias, relu=True, pooling="max", out=out, pooled=pooled)
    rows = slice(200, 220)  # with what is above and below
    truth = definition(x[:, 199:221], weight, bias)[:, 1:-1].relu()
    assert oracle.error(out[:, rows], truth) <= LAYER
    assert torch.equal(pooled, reference.pool(out, "max"))
    assert out.isfinite().all()
    back = unwritten(*out.shape)
    convolution.unpool(pooled, out, "max", relu_mask=True, out=back)
    assert torch.equal(back, reference.unpool(pooled, out, "max", relu_mask=True))

    image, weight, bias = torch.randn(1, 3, 513, 130), torch.randn(64, 3, 3, 3), torch.randn(64)
    found, expected = unwritten(*out.shape), unwritten(1, 22, 130, 64)
    first = convolution.arrange_image_filters(weight)
    convolution.convolve_image(image, first, bias, out=found)
    convolution.convolve_image(image[:, :, 199:221].contiguous(), first, bias, out=expected)
    assert torch.equal(found[:, rows], expected[:, 1:-1])
    assert found.isfinite().all()


def test_wrong_input() -> None:
    x, weight, _ = layer((1, 4, 4, 16, 16))
    filters = convolution.transform_filters(weight)
    out = torch.empty(1, 4, 4, 16)
    with pytest.raises(InvalidInput, match=r"x: expected shape \(1, 4, 4, 16\)"):
        convolution.convolve(torch.zeros(1, 4, 4, 32), filters, out=out)
    with pytest.raises(InvalidInput, match="x: expected a contiguous tensor"):
        convolution.convolve(x.transpose(1, 2), filters, out=out)
    with pytest.raises(InvalidInput, match="out: expected float32"):
        convolution.convolve(x, filters, out=out.double())
    with pytest.raises(InvalidInput, match="out: expected shape"):
        convolution.convolve(x, filters, out=torch.empty(1, 4, 5, 16))
    rounded = convolution.transform_filters(weight, dtype=torch.bfloat16)
    with pytest.raises(InvalidInput, match="x: expected float32"):
        convolution.convolve(x.bfloat16(), filters, out=out)
    with pytest.raises(InvalidInput, match="x: expected bfloat16"):
        convolution.convolve(x.double(), rounded, out=out)
    with pytest.raises(InvalidInput, match="out: expected float32"):
        convolution.convolve(x, rounded, out=out.bfloat16())
    with pytest.raises(InvalidInput, match="out: expected bfloat16"):
        convolution.convolve(x.bfloat16(), rounded, out=out)
    with pytest.raises(InvalidInput, match="mask: expected shape"):
        convolution.convolve(x, filters, mask=torch.empty(1, 4, 4, 32), out=out)
    with pytest.raises(InvalidInput, match="bias: expected shape"):
        convolution.convolve(x, filters, torch.zeros(17), out=out)
    with pytest.raises(InvalidInput, match="pooling: expected average or max with pooled"):
        convolution.convolve(x, filters, pooling="average", out=out)
    with pytest.raises(InvalidInput, match="out: only with pooled it may be None"):
        convolution.convolve(x, filters)
    signs = torch.zeros(1, 9, 8, 2, dtype=torch.uint8)
    with pytest.raises(InvalidInput, match=r"positive: expected shape \(1, 4, 4, 2\)"):
        convolution.convolve(x, filters, positive=signs, out=out)
    with pytest.raises(InvalidInput, match="positive: expected uint8"):
        convolution.convolve(x, filters, positive=x, out=out)
    with pytest.raises(InvalidInput, match=r"x_positive: expected shape \(B, H, W, C // 8\)"):
        convolution.convolve(x, filters, x_positive=signs[0], out=out)
    with pytest.raises(InvalidInput, match=r"x: expected shape \(1, 3, 4, 16\)"):
        convolution.convolve(x, filters, x_positive=signs[:, :7].contiguous(), out=out)
    with pytest.raises(InvalidInput, match="multiple of 16"):
        convolution.transform_filters(torch.zeros(16, 3, 3, 3))
    with pytest.raises(InvalidInput, match=r"weight: expected shape \(16, 16, 3, 3\)"):
        convolution.transform_filters(torch.zeros(16, 16, 5, 5))
    with pytest.raises(InvalidInput, match="expected a multiple of 16 filters, got 17"):
        convolution.arrange_image_filters(torch.zeros(17, 3, 3, 3))
    with pytest.raises(InvalidInput, match="pooling: expected average or max, got 'min'"):
        convolution.unpool(torch.zeros(1, 2, 2, 16), x, "min", out=out)
