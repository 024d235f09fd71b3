"""The kernels of an iteration on a CPU, in the emulator, against float64.

Gram matrices have tests of their own in test_cuda_kernels.py. Buffers lie beside pages that may
not be touched. Every kernel in every order of blocks and threads, and at 10⁶ positions, is in
test_cuda_every_kernel.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.ops import device
from fastnst.ops.buffers import PRECISIONS
from fastnst.ops.history import BLOCK
from helpers.cuda_emulator.library import (
    NEEDED,
    Emulator,
    Mode,
    in_place_of_a_gpu,
    shared_library,
)

pytestmark = NEEDED

FLOAT = 2.0**-23  # the distance of 1 to the next float32
DTYPES = [torch.float32, torch.bfloat16]
STORED = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8}  # a rounding to the type, twice over
POOLINGS = [None, "average", "max"]


@pytest.fixture(scope="module")
def compiled() -> Emulator:
    return shared_library()


@pytest.fixture(params=[Mode(), Mode(order=1, at_end=False)], ids=["end", "begin"])
def emulator(compiled: Emulator, request: pytest.FixtureRequest) -> Iterator[Emulator]:
    torch.manual_seed(0)
    chosen = replace(compiled, mode=request.param)
    with in_place_of_a_gpu(chosen):
        yield chosen
    compiled.library.emulator_free_all()


# --------------------------------------------------------------------------------------- history --


def filled(emulator: Emulator, x: Tensor, room: int = 0) -> device.DeviceRows:
    """Rows that hold x ``(m, n)``, with room for more."""
    rows = device.DeviceRows(len(x) + room, x.shape[1], x.device)
    rows.values, rows.scales = emulator.tensor(rows.values), emulator.tensor(rows.scales)
    rows.scales.fill_(torch.nan)
    for index, row in enumerate(x):
        rows.store(torch.tensor(index), emulator.tensor(row))
    return rows


def unpacked(rows: device.DeviceRows, used: int) -> Tensor:
    """The rows in float64 as they are kept, ``(used, n)``."""
    blocks = rows.values.unflatten(2, (-1, BLOCK)).double() * rows.scales.double()[..., None]
    return blocks.flatten(2).transpose(0, 1).flatten(1)[:used, : rows.length]


LENGTHS = [1, 65, 4095, 4097, 3 * 41 * 67]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_row_is_kept_to_eight_bits(emulator: Emulator, length: int) -> None:
    x = torch.randn(3, length) * torch.logspace(-3, 3, 3)[:, None]
    x[1, : length // 2] = 0  # blocks of zeros
    kept = unpacked(filled(emulator, x), 3)
    padded = functional.pad(x.double(), (0, -length % BLOCK))
    largest = padded.unflatten(1, (-1, BLOCK)).abs().amax(2)
    bound = largest.repeat_interleave(BLOCK, 1)[:, :length] / 254
    # half a step of 1/127, and the roundings of the scale and of its inverse
    assert ((kept - x.double()).abs() <= bound * (1 + 300 * FLOAT)).all()


def check_products(emulator: Emulator, rows: int, length: int, *, room: int = 3) -> None:
    held = filled(emulator, torch.rand(rows, length) + 0.1, room)
    x = emulator.tensor(torch.rand(length) + 0.1)
    truth = unpacked(held, rows)
    for used in {0, 1, rows // 2, rows}:
        partials = emulator.tensor(torch.full((len(held.scales), held.rows), torch.nan))
        held.products(torch.tensor(used), x, partials)
        found = partials[:, :used].double().sum(0)
        # positive terms: no error cancels. A chunk's sum has at most 32 + 5 roundings in a row
        assert torch.allclose(found, truth[:used] @ x.double(), rtol=40 * FLOAT, atol=0)
        assert partials[:, used:].isnan().all()


def check_combination(emulator: Emulator, rows: int, length: int, *, room: int = 3) -> None:
    held = filled(emulator, torch.rand(rows, length) + 0.1, room)
    base = emulator.tensor(torch.rand(length) + 0.1)
    truth = unpacked(held, rows)
    weights = emulator.tensor(torch.full((held.rows,), torch.nan))
    weights[:rows] = torch.rand(rows)
    for used, sign, outer in ((rows, 1.0, None), (rows // 2, -1.0, 0.37), (0, -1.0, None)):
        out = emulator.tensor(torch.full((length,), torch.nan))
        squares = emulator.tensor(torch.full((4 * len(held.scales),), torch.nan).double())
        held.combine(
            torch.tensor(used),
            weights,
            base,
            sign=sign,
            outer=None if outer is None else torch.tensor(outer, dtype=torch.float64),
            squares=squares,
            out=out,
        )
        terms = weights[:used].double() @ truth[:used]
        expected = (outer or 1) * (sign * base.double() + terms)
        scale = (outer or 1) * (base.double() + terms)
        # two roundings for each row's factor and sum
        assert ((out.double() - expected).abs() <= (2 * used + 3) * FLOAT * scale).all()
        assert torch.allclose(squares.sum(), out.double().square().sum(), rtol=1e-13)
    into = emulator.tensor(base.clone())
    held.combine(torch.tensor(rows), weights, into, out=into)  # base and out may be one
    held.combine(torch.tensor(rows), weights, base, out=out)
    assert torch.equal(into, out)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rows", [1, 7, 33])
def test_both_passes_over_the_history(emulator: Emulator, rows: int, length: int) -> None:
    check_products(emulator, rows, length)
    check_combination(emulator, rows, length)


# ---------------------------------------------------------------------------------------- layers --


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def placed(emulator: Emulator, x: Tensor) -> Tensor:
    """A channels_last copy beside a forbidden page."""
    return emulator.tensor(x.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)


def unpooled(above: Tensor, features: Tensor, pooling: str) -> Tensor:
    """The gradient of a pooling by autograd, float64."""
    with torch.enable_grad():
        x = features.double().requires_grad_()
        pool = functional.avg_pool2d if pooling == "average" else functional.max_pool2d
        (found,) = torch.autograd.grad(pool(x, 2), x, above.double())
    return found


def check_layer(
    emulator: Emulator,
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    pooling: str | None,
    *,
    content: bool,
    mask: bool,
) -> None:
    batch, channels, height, width = shape
    features = torch.rand(shape).sub(0.3).relu().to(dtype)
    if pooling == "max":  # equal maxima: the first of them has it all
        features[:, :, :2, :2] = 0.5
    pooled = (batch, channels, height // 2, width // 2) if pooling else shape
    above = (torch.rand(pooled) + 0.1).to(dtype)
    target = torch.rand(shape).to(dtype)
    f, p = placed(emulator, features), placed(emulator, target)
    a = placed(emulator, above) if above.numel() else above
    out = placed(emulator, torch.full(shape, torch.nan).to(dtype))
    squares = device.square_sums(f, pooling)
    squares = emulator.tensor(squares.fill_(torch.nan))
    device.layer_gradient(
        f,
        a,
        pooling=pooling,
        relu_mask=mask,
        target=p if content else None,
        scale=0.25 if content else 0.0,
        squares=squares if content else None,
        out=out,
    )
    difference = features.double() - target.double()
    whole = unpooled(above, features, pooling) if pooling and above.numel() else above.double()
    if pooling and not above.numel():
        whole = torch.zeros(shape, dtype=torch.float64)
    expected = whole + (0.25 * difference if content else 0)
    scale = whole.abs() + 0.25 * (features.double().abs() + target.double().abs())
    if mask:
        expected = expected.masked_fill(features <= 0, 0)
    # one rounding to the type of the result, and two of float32 before it
    bound = STORED[dtype] * expected.abs() + 3 * FLOAT * scale
    assert ((out.double() - expected).abs() <= bound).all()
    if content:
        # a difference of bfloat16 numbers is rounded to float32 once
        assert torch.allclose(squares.sum(), difference.square().sum(), rtol=3 * FLOAT, atol=1e-30)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(
    "shape",
    [(1, 64, 9, 6), (2, 3, 5, 7), (1, 4, 1, 1), (1, 5, 1, 8), (1, 130, 2, 3), (3, 8, 12, 4)],
    ids=str,
)
def test_a_layer_on_the_way_back(
    emulator: Emulator, shape: tuple, pooling: str | None, dtype: torch.dtype
) -> None:
    for content, mask in ((False, True), (True, True), (True, False)):
        check_layer(emulator, shape, dtype, pooling, content=content, mask=mask)


def test_a_layer_where_nothing_comes_from_above_and_one_in_place(emulator: Emulator) -> None:
    features, target = torch.rand(1, 8, 5, 3), torch.rand(1, 8, 5, 3)
    f, p = placed(emulator, features), placed(emulator, target)
    out = placed(emulator, torch.full_like(features, torch.nan))
    device.layer_gradient(f, None, target=p, scale=2.0, out=out)
    assert torch.allclose(out, 2 * (features - target), rtol=3 * FLOAT)
    before = out.clone()
    device.layer_gradient(f, out, target=p, scale=2.0, out=out)
    assert torch.allclose(out, 2 * before, rtol=3 * FLOAT)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize(
    "shape",
    [(1, 64, 9, 6), (2, 3, 5, 7), (1, 4, 2, 2), (1, 130, 2, 3), (3, 8, 12, 4), (1, 16, 2, 521)],
    ids=str,
)
def test_pooling_has_the_bits_of_pytorch(
    emulator: Emulator, shape: tuple, pooling: str, dtype: torch.dtype
) -> None:
    batch, channels, height, width = shape
    features = torch.randn(shape).to(dtype)
    features[:, :2, 0, 1] = torch.nan
    features[:, 2, :2, :2] = -0.0
    out = torch.full((batch, channels, height // 2, width // 2), torch.nan).to(dtype)
    out = placed(emulator, out)
    device.pool_features(placed(emulator, features), pooling, out=out)
    pool = functional.avg_pool2d if pooling == "average" else functional.max_pool2d
    expected = pool(last(features), 2)
    assert torch.allclose(out, expected, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(out.signbit() & ~out.isnan(), expected.signbit() & ~expected.isnan())


def test_losses_and_their_weighted_sum(emulator: Emulator) -> None:
    sums = emulator.tensor(torch.rand(777, dtype=torch.float64))
    value = emulator.tensor(torch.rand(1))
    terms = [
        device.LossTerm(sums, 2.0, 5.0),
        device.LossTerm(value, 0.5, offset=0.25),
        device.LossTerm(sums[:1], 3.0),
    ]
    losses = emulator.tensor(torch.full((4,), torch.nan))
    device.weigh_losses(terms, losses)
    parts = torch.stack([sums.sum() / 5, value[0].double() + 0.25, sums[0]])
    assert torch.allclose(losses[1:].double(), parts, rtol=FLOAT)  # rounded once
    total = (losses[1:].double() * torch.tensor([2.0, 0.5, 3.0]).double()).sum()
    assert torch.allclose(losses[0].double(), total, rtol=FLOAT)


# ----------------------------------------------------------------------------- first convolution --


def check_image(emulator: Emulator, shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    batch, channels, height, width = shape
    weight, bias = torch.randn(channels, 3, 3, 3), torch.randn(channels)
    mean, deviation = torch.rand(3), torch.rand(3) + 0.5
    filters = device.arrange_image_filters(weight, bias, mean, deviation)
    image = emulator.tensor(torch.rand(batch, 3, height, width))
    normal = (image.double() - mean.double()[:, None, None]) / deviation.double()[:, None, None]
    for relu, replicate in ((True, False), (False, False), (True, True)):
        out = placed(emulator, torch.full(shape, torch.nan).to(dtype))
        device.image_features(image, filters, relu=relu, replicate=replicate, out=out)
        edges = functional.pad(normal, (1,) * 4, mode="replicate" if replicate else "constant")
        expected = functional.conv2d(edges, weight.double(), bias.double())
        scale = functional.conv2d(edges.abs(), weight.double().abs(), bias.double().abs())
        expected = expected.relu() if relu else expected
        # 27 sums in a row and the normalisation of each factor, then one rounding to the type
        bound = STORED[dtype] * expected.abs() + 32 * FLOAT * scale
        assert ((out.double() - expected).abs() <= bound).all()
    gradient = placed(emulator, torch.randn(shape).to(dtype))
    back = emulator.tensor(torch.full((batch, 3, height, width), torch.nan))
    device.image_gradient(gradient, filters, out=back)
    over = weight.double() / deviation.double()[None, :, None, None]
    expected = functional.conv_transpose2d(gradient.double(), over, padding=1)
    scale = functional.conv_transpose2d(gradient.double().abs(), over.abs(), padding=1)
    # 9 C terms in a row: their roundings cancel as a walk does, and hardly reach a third of this;
    # nor does what 64 filters of two bfloat16 numbers lose, 2⁻¹⁸ each
    assert ((back.double() - expected).abs() <= 3 * (9 * channels) ** 0.5 * FLOAT * scale).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    "shape",
    [(1, 64, 9, 35), (2, 64, 23, 31), (2, 4, 5, 7), (1, 8, 1, 1), (1, 70, 3, 32), (1, 16, 8, 66)],
    ids=str,
)
def test_the_first_convolution_both_ways(
    emulator: Emulator, shape: tuple, dtype: torch.dtype
) -> None:
    check_image(emulator, shape, dtype)


# -------------------------------------------------------------------------------- Gram matrices --


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
def test_a_symmetric_difference_and_a_masked_sum(
    emulator: Emulator, dtype: torch.dtype, precision: str
) -> None:
    for shape in ((1, 64, 5, 6), (2, 21, 3, 11), (1, 1, 1, 1)):
        channels, positions = shape[1], shape[2] * shape[3]
        features = torch.randn(shape).relu().to(dtype)
        f = placed(emulator, features)
        target = emulator.tensor(torch.rand(channels, channels))  # not symmetric
        losses = emulator.tensor(torch.full((1,), torch.nan))
        s = device.symmetric_differences(f, precision)
        s = emulator.tensor(s.fill_(torch.nan))
        device.style_losses([f], [target], losses, [s], precision)
        wide = features.double().flatten(2)
        d = wide @ wide.mT / positions - target.double()
        coarse = {"fp32": 0.0, "tf32": 2.0**-10, "bf16": 2.0**-8}[precision]
        scale = wide.abs() @ wide.abs().mT / positions + (target + target.mT).double() / 2
        symmetric = (d + d.mT) / 2
        # of a rounded factor, or of S itself in bfloat16, and the sums
        assert ((s[..., :channels].double() - symmetric).abs() <= (coarse + 2e-6) * scale).all()
        assert float(losses) == pytest.approx(float(d.square().mean()), rel=2e-6 + 4 * coarse)
        before = torch.randn(shape).to(dtype)
        for accumulate in (True, False):
            out = placed(emulator, before if accumulate else torch.full_like(before, torch.nan))
            device.style_gradient(
                f, s, 0.37, out, accumulate=accumulate, relu_mask=True, precision=precision
            )
            term = 0.37 * (s[..., :channels].double() @ wide).view(shape)
            size = 0.37 * (s[..., :channels].double().abs() @ wide.abs()).view(shape)
            expected = (term + (before.double() if accumulate else 0)) * (features > 0)
            bound = (coarse + 2e-6) * size + STORED[dtype] * expected.abs() + 1e-7
            assert ((out.double() - expected).abs() <= bound).all()
            assert (out[features <= 0] == 0).all()


# ---------------------------------------------------------------------------------- wrong calls --


def test_wrong_tensors_are_named(emulator: Emulator) -> None:
    features, rows = last(torch.rand(1, 4, 3, 3)), device.DeviceRows(2, 10, torch.device("cpu"))
    with pytest.raises(InvalidInput, match="incoming: expected"):
        device.layer_gradient(features, features, pooling="max", out=features)
    with pytest.raises(InvalidInput, match=r"out: expected torch.float32 \(1, 4, 1, 1\)"):
        device.pool_features(features, "max", out=features)
    row = last(torch.rand(1, 4, 1, 3))
    with pytest.raises(InvalidInput, match="pool: expected a window"):
        device.pool_features(row, "max", out=last(torch.empty(1, 4, 0, 1)))
    with pytest.raises(InvalidInput, match="out: expected channels_last"):
        device.layer_gradient(features, None, out=torch.rand(1, 4, 3, 3))
    with pytest.raises(InvalidInput, match="x: expected shape"):
        rows.store(torch.tensor(0), torch.rand(11))
    with pytest.raises(InvalidInput, match="layer: a pooling needs"):
        device.layer_gradient(features, None, pooling="max", out=torch.empty_like(features))
    with pytest.raises(InvalidInput, match="too many terms"):
        device.weigh_losses([device.LossTerm(torch.ones(1), 1.0)] * 81, torch.empty(82))


def test_an_error_of_the_device_keeps_its_name(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, x = device.DeviceRows(1, 4, torch.device("cpu")), torch.rand(4)

    def failing(error: type[Exception]) -> Callable[..., None]:
        def run(*arguments: object, **named: object) -> None:
            raise error("an illegal memory access was encountered")

        return run

    for error, expected in (
        (emulator.module.DeviceError, emulator.module.DeviceError),
        (RuntimeError, BackendUnavailable),
        (ValueError, InvalidInput),
    ):
        monkeypatch.setattr(emulator.module, "cuda_history_store", failing(error))
        with pytest.raises(expected, match="illegal memory access"):
            rows.store(torch.tensor(0), x)


def test_every_layer_of_the_network_may_have_a_content_and_a_style_loss(emulator: Emulator) -> None:
    """37 of each, the total variation and a temporal term."""
    row = torch.empty(77)
    device.weigh_losses([device.LossTerm(torch.tensor(float(i)), 2.0) for i in range(76)], row)
    assert float(row[0]) == 2 * sum(range(76))
