"""Native and reference against closed forms and float64, over shapes, layouts, types and ISAs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnst.ops import extension, functional, reference
from helpers import kernel_oracle as oracle
from helpers.kernels import ISAS, needs_native

DTYPES = [torch.float32, torch.bfloat16]
SHAPES = [
    (1, 1, 1, 1),  # one number
    (1, 1, 1, 7),
    (3, 1, 5, 1),
    (2, 3, 5, 7),
    (1, 16, 4, 4),
    (1, 17, 9, 9),
    (1, 64, 1, 1),  # one position
    (2, 47, 23, 11),
    (1, 49, 16, 17),  # one more than a whole panel
    (1, 64, 33, 31),
    (1, 128, 40, 40),
    (1, 130, 12, 100),
    (1, 513, 5, 5),  # more channels than positions
    (1, 256, 64, 64),  # several sums
]


def make(shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool = False) -> torch.Tensor:
    x = torch.randn(shape).to(dtype)
    return x.to(memory_format=torch.channels_last) if channels_last else x


def check(x: torch.Tensor, target: torch.Tensor, backend: str = "native") -> None:
    """Gram matrix, loss and gradient of one layer against float64."""
    x = x.detach().requires_grad_()
    gram = functional.gram_matrix(x.detach(), backend=backend)
    assert gram.dtype == torch.float32
    assert oracle.error(gram, oracle.gram(x)) <= oracle.FORWARD
    assert torch.equal(gram, gram.mT)
    loss = functional.style_loss(x, target, backend=backend)
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    # the difference of two close Gram matrices keeps their absolute error
    slack = 4 * oracle.FORWARD * (oracle.gram(x).square().mean().sqrt() + 1)
    truth = oracle.loss(x, target)
    assert abs(loss.item() - truth.item()) <= 2 * slack * math.sqrt(truth.item()) + 1e-12
    loss.backward()
    assert x.grad is not None
    assert x.grad.dtype == x.dtype
    truth = oracle.gradient(x, target)
    # an error of G of FORWARD · |G| does not shrink where G - A cancels
    unit = 4 / (x.numel() * x.shape[1])
    cancelled = unit * oracle.FORWARD * (oracle.gram(x).norm() * x.detach().double().norm()).item()
    error = (x.grad.double() - truth).norm().item()
    assert error <= oracle.GRADIENT[x.dtype] * truth.norm().item() + cancelled


def error_of_gram(channels: int, side: int, backend: str) -> float:
    """The largest error of a Gram matrix against float64, over its largest entry."""
    x = torch.rand(1, channels, side, side).pow_(4)
    parts = (part.double() for part in x[0].flatten(1).split(1 << 20, -1))
    truth = sum(part @ part.mT for part in parts) / side**2
    assert isinstance(truth, torch.Tensor)
    found = functional.gram_matrix(x, backend=backend)[0].double()
    return float((found - truth).abs().max() / truth.max())


@pytest.mark.parametrize("backend", ["torch", pytest.param("native", marks=needs_native)])
def test_a_sum_over_a_megapixel(backend: str) -> None:
    """One product in float32 is off by 4e-6."""
    assert error_of_gram(16, 1024, backend) < 1e-6


@pytest.mark.slow  # a gigabyte
@pytest.mark.parametrize(
    ("channels", "side", "backend"),
    [(16, 4096, "torch"), pytest.param(4, 8192, "native", marks=needs_native)],
)
def test_a_sum_over_many_megapixels(channels: int, side: int, backend: str) -> None:
    assert error_of_gram(channels, side, backend) < 1e-6


@pytest.mark.parametrize("backend", ["torch", pytest.param("native", marks=needs_native)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_ones_have_a_gram_matrix_of_ones(backend: str, dtype: torch.dtype) -> None:
    x = torch.ones(2, 5, 6, 7, dtype=dtype)
    assert torch.equal(functional.gram_matrix(x, backend=backend), torch.ones(2, 5, 5))
    assert functional.style_loss(x, torch.zeros(5, 5), backend=backend).item() == 1
    assert functional.style_loss(x, torch.ones(5, 5), backend=backend).item() == 0


@pytest.mark.parametrize("backend", ["torch", pytest.param("native", marks=needs_native)])
def test_orthogonal_channels(backend: str) -> None:
    # channel c is 2 at position c, else 0:  G = 4 / N · identity
    x = (2 * torch.eye(6)).reshape(6, 2, 3)
    assert torch.allclose(functional.gram_matrix(x, backend=backend), 4 / 6 * torch.eye(6))
    x.requires_grad_()
    loss = functional.style_loss(x, torch.zeros(6, 6), backend=backend)
    assert loss.item() == pytest.approx(6 * (4 / 6) ** 2 / 36)
    loss.backward()
    assert torch.allclose(x.grad, 4 / (36 * 6) * 4 / 6 * x.detach())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
def test_shapes(isa: str, shape: tuple[int, ...], dtype: torch.dtype, channels_last: bool) -> None:
    x = make(shape, dtype, channels_last)
    check(x, torch.randn(shape[1], shape[1]))  # a target need not be symmetric
    if shape[0] > 1:
        check(x, torch.randn(shape[0], shape[1], shape[1]))


@pytest.mark.parametrize("shape", SHAPES[:8], ids=str)
def test_reference(shape: tuple[int, ...]) -> None:
    check(make(shape, torch.float32), torch.randn(shape[1], shape[1]), "torch")
    x = make(shape, torch.bfloat16)
    gram = functional.gram_matrix(x, backend="torch")
    assert oracle.error(gram, oracle.gram(x)) <= oracle.FORWARD
    wide = torch.randn(shape, dtype=torch.float64)
    assert functional.gram_matrix(wide).dtype == torch.float64
    assert oracle.error(functional.gram_matrix(wide), oracle.gram(wide)) <= 1e-14


@needs_native
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_shape_stride_and_type(data: st.DataObject) -> None:
    isa = data.draw(st.sampled_from(ISAS))
    dtype = data.draw(st.sampled_from(DTYPES))
    batch, channels = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 150))
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    steps = [data.draw(st.integers(1, 2)) for _ in range(4)]
    order = data.draw(st.permutations(range(4)))
    torch.manual_seed(data.draw(st.integers(0, 2**20)))
    # a strided view of a larger tensor whose dimensions are stored in any order
    shape = [batch, channels, height, width]
    stored = torch.randn([shape[d] * steps[d] for d in order]).to(dtype)
    x = stored.permute([order.index(d) for d in range(4)])
    x = x[:: steps[0], :: steps[1], :: steps[2], :: steps[3]]
    assert x.shape == tuple(shape)
    with extension.use_isa(isa):
        check(x, torch.randn(channels, channels))


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("positions", [1, 255, 256, 257, 511, 513, 1025, 4097])
def test_around_the_block_sizes(isa: str, positions: int, dtype: torch.dtype) -> None:
    for channels_last in (False, True):
        for channels in (33, 48):  # whole vectors of channels_last floats are not copied
            x = make((1, channels, 1, positions), dtype, channels_last)
            check(x, torch.randn(channels, channels))


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
def test_a_million_positive_pixels(isa: str, dtype: torch.dtype) -> None:
    # sums of positive numbers show every loss of accuracy; blocks hold at most 512 positions
    x = torch.randn(1, 8, 1000, 1000).relu().to(dtype)
    gram = functional.gram_matrix(x, backend="native")
    assert oracle.error(gram, oracle.gram(x)) <= 5e-7  # far below 1e-6 · sqrt(blocks)
    for channels in (3, 16):
        constant = torch.full((1, channels, 1000, 1000), 1.1).to(dtype)  # no error cancels
        for layout in (torch.contiguous_format, torch.channels_last):
            x = constant.contiguous(memory_format=layout)
            gram = functional.gram_matrix(x, backend="native")
            assert oracle.error(gram, oracle.gram(x)) <= 5e-6


@needs_native
def test_several_layers_at_once() -> None:
    shapes = [(1, 64, 40, 40), (1, 128, 20, 20), (2, 9, 5, 5), (1, 512, 7, 7)]
    features = [make(s, d).requires_grad_() for s in shapes for d in DTYPES]
    targets = [torch.randn(x.shape[1], x.shape[1]) for x in features]
    losses = functional.style_losses(features, targets, backend="native")
    assert losses.shape == (len(features),)
    factors = torch.rand(len(features)) + 0.5
    (losses * factors).sum().backward()
    for x, target, loss, factor in zip(features, targets, losses, factors, strict=True):
        alone = functional.style_loss(x.detach(), target, backend="native")
        assert torch.equal(alone, loss.detach())
        truth = oracle.gradient(x, target) * factor.double()
        assert oracle.error(x.grad, truth) <= oracle.GRADIENT[x.dtype]
    expected = reference.style_losses([x.detach() for x in features], targets)
    assert torch.allclose(losses.detach(), expected, rtol=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
def test_not_a_number_and_infinity(
    isa: str, value: float, dtype: torch.dtype, channels_last: bool
) -> None:
    x = torch.randn(1, 21, 9, 30).abs().to(dtype)
    x[0, 5] = 0
    x[0, 3, 4, 11] = value
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    target = torch.rand(21, 21)
    results = []
    for backend in ("native", "torch"):
        leaf = x.clone().requires_grad_()
        gram = functional.gram_matrix(x, backend=backend)
        loss = functional.style_loss(leaf, target, backend=backend)
        loss.backward()
        results.append((gram, loss.detach(), leaf.grad))
    assert not torch.isfinite(results[0][1])
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours.isnan(), theirs.isnan())
        assert torch.equal(ours.isposinf(), theirs.isposinf())
        assert torch.equal(ours.isneginf(), theirs.isneginf())


def test_the_same_bits_for_every_number_of_threads(isa: str, threads: None) -> None:
    for shape in [(1, 64, 100, 100), (2, 96, 37, 41), (1, 512, 32, 32), (1, 512, 16, 16)]:
        for dtype in DTYPES:
            for channels_last in (False, True):
                x = make(shape, dtype, channels_last).requires_grad_()
                target = torch.randn(shape[1], shape[1])
                results = []
                for count in (1, 2, 3, 8, 1):
                    torch.set_num_threads(count)
                    gram = functional.gram_matrix(x.detach(), backend="native")
                    loss = functional.style_loss(x, target, backend="native")
                    (grad,) = torch.autograd.grad(loss, x)
                    results.append((gram, loss, grad))
                for result in results[1:]:
                    assert all(map(torch.equal, result, results[0]))


@pytest.mark.parametrize("channels", [16, 64, 128, 256, 512])
@pytest.mark.parametrize("positions", [1, 254, 255, 256, 1000, 2460, 8192, 8193, 24577])
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
def test_products_in_plain_pytorch_do_not_depend_on_threads(
    channels: int, positions: int, channels_last: bool
) -> None:
    """PyTorch's one product of 64 channels at 2460 positions does, with AVX-512."""
    f = torch.randn(channels, positions)
    f = f.T.contiguous().T if channels_last else f
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 4, 8):
            torch.set_num_threads(threads)
            found.append(reference.products(f))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])
    assert oracle.error(found[0] / positions, (f.double() @ f.double().T) / positions) <= 1e-6


@needs_native
def test_the_instruction_sets_agree() -> None:
    x = torch.randn(1, 70, 50, 50)
    grams = []
    for isa in ISAS:
        with extension.use_isa(isa):
            assert extension.selected_isa() == isa
            grams.append(functional.gram_matrix(x, backend="native"))
    for gram in grams[1:]:
        assert torch.allclose(gram, grams[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", ["auto", "torch", pytest.param("native", marks=needs_native)])
def test_the_callers_autocast_takes_no_product_in_half_precision(
    backend: str, dtype: torch.dtype
) -> None:
    """Its sums would be infinite: 256 products of 400."""
    features = torch.full((1, 8, 16, 16), 20.0, requires_grad=True)
    with torch.autocast("cpu", dtype):
        gram = functional.gram_matrix(features, backend=backend)
        loss = functional.style_loss(features, torch.zeros(8, 8), backend=backend)
        (gradient,) = torch.autograd.grad(loss, features, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), features)
    assert gram.dtype == loss.dtype == torch.float32
    assert torch.equal(gram, torch.full((1, 8, 8), 400.0))
    assert float(loss.detach()) == 400.0**2
    assert gradient.isfinite().all()
    assert second.isfinite().all()
    assert reference.gram_matrix(torch.empty(1, 3, 4, 4, device="meta")).shape == (1, 3, 3)
