"""The CUDA kernels on a GPU, through ``fastnst.ops``, against float64.

Everything that needs no hardware is in test_cuda_kernels.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import pytest
import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.ops import buffers, functional, gram, reference
from helpers.cuda_bounds import SUMS, check_gradient, check_gram

DEVICE = torch.device("cuda", 0)


def reason() -> str:
    """Why these tests cannot run, or nothing."""
    if not torch.cuda.is_available():
        return "no GPU"
    return buffers.unavailable_reason(torch.empty(1, 1, 1, 1, device=DEVICE)) or ""


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(reason()), reason=reason() or "never")]

DTYPES = (torch.float32, torch.bfloat16)
FORMATS = (torch.contiguous_format, torch.channels_last)
# VGG-19's style layers for a 512 x 512 picture
VGG = [(64, 512), (128, 256), (256, 128), (512, 64), (512, 32)]
ODD = [(1, 1, 1), (3, 1, 7), (17, 3, 11), (64, 1, 1), (65, 10, 10), (100, 23, 31), (513, 5, 5)]


@dataclass(frozen=True)
class Layer:
    """What was asked of the gradient, as (B, C, N)."""

    features: Tensor
    difference: Tensor
    scale: float
    relu_mask: bool
    out: Tensor
    accumulate: bool


def features(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    memory_format: torch.memory_format,
    seed: int = 0,
) -> Tensor:
    generator = torch.Generator(DEVICE).manual_seed(seed)
    x = torch.randn(shape, generator=generator, device=DEVICE).to(dtype)
    return x.to(memory_format=memory_format)


def losses(x: Tensor, target: Tensor, precision: str | None = None) -> tuple[Tensor, ...]:
    """G, D and the loss of one layer."""
    batch, channels = x.shape[:2]
    found, difference = torch.full((2, batch, channels, channels), torch.nan, device=x.device)
    loss = torch.full((1,), torch.nan, device=x.device)
    gram.style_losses_into(
        [x], [target], losses=loss, differences=[difference], grams=[found], precision=precision
    )
    return found, difference, loss


def check(x: Tensor, precision: str) -> None:
    """Both operations on one layer."""
    batch, channels = x.shape[:2]
    target = torch.randn(channels, channels, device=x.device)
    check_gram(x.flatten(2), target, precision, losses(x, target, precision))
    for accumulate, dtype in ((True, x.dtype), (False, torch.float32)):
        difference = torch.randn(batch, channels, channels, device=x.device)
        before = torch.randn_like(x, dtype=dtype)
        out = before.clone() if accumulate else torch.full_like(before, torch.nan)
        gram.accumulate_style_gradient(
            x, difference, 0.37, accumulate, out, accumulate=accumulate, precision=precision
        )
        layer = Layer(x.flatten(2), difference, 0.37, accumulate, before.flatten(2), accumulate)
        check_gradient(layer, precision, out.flatten(2))


@pytest.mark.parametrize("precision", buffers.PRECISIONS)
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("memory_format", FORMATS, ids=["nchw", "nhwc"])
@pytest.mark.parametrize(("channels", "side"), VGG)
def test_layers_of_vgg(
    channels: int,
    side: int,
    memory_format: torch.memory_format,
    dtype: torch.dtype,
    precision: str,
) -> None:
    check(features((1, channels, side, side), dtype, memory_format), precision)


@pytest.mark.parametrize("precision", buffers.PRECISIONS)
@pytest.mark.parametrize("shape", ODD, ids=str)
def test_odd_shapes(shape: tuple[int, int, int], precision: str) -> None:
    for batch, dtype, memory_format in product((1, 3), DTYPES, FORMATS):
        check(features((batch, *shape), dtype, memory_format), precision)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
def test_a_million_positive_positions(dtype: torch.dtype) -> None:
    # no error cancels; sums of 256 are rounded towards zero, which costs SUMS at most. The values
    # are random, since the partial sums of a constant with few bits are exact, flushed or not
    generator = torch.Generator(DEVICE).manual_seed(0)
    x = torch.rand((1, 3, 1024, 1024), generator=generator, device=DEVICE).add_(0.5).to(dtype)
    if dtype == torch.float32:
        x = (x.view(torch.int32) & ~0x1FFF).view(torch.float32)  # exact in TF32
    found, _, _ = losses(x, torch.zeros(3, 3, device=DEVICE), "bf16")
    wide = x.double().flatten(2)
    truth = wide @ wide.mT / wide.shape[2]
    assert ((found.double() - truth).abs() <= SUMS * truth).all()


def test_the_same_bits_every_time() -> None:
    x = features((1, 128, 100, 100), torch.float32, torch.channels_last)
    target = torch.randn(128, 128, device=DEVICE)
    first = losses(x, target)
    for _ in range(5):
        assert all(map(torch.equal, losses(x, target), first))


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
def test_autograd_is_that_of_pytorch(dtype: torch.dtype) -> None:
    x = features((2, 70, 20, 30), dtype, torch.channels_last)
    target = torch.rand(70, 70, device=DEVICE)
    results = []
    for backend in ("native", "torch"):
        leaf = x.clone().requires_grad_()
        loss = functional.style_losses([leaf, leaf], [target, target], backend=backend)
        (loss * torch.tensor([1.0, 2.0], device=DEVICE)).sum().backward()
        assert leaf.grad is not None
        results.append((loss.detach(), leaf.grad))
    assert torch.allclose(results[0][0], results[1][0], rtol=1e-5)
    error = (results[0][1].float() - results[1][1].float()).norm() / results[1][1].float().norm()
    # two bfloat16 gradients rounded, and D in one of them
    assert float(error) <= (1e-5 if dtype == torch.float32 else 1e-2)


def test_torch_says_whether_float32_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    x = features((1, 64, 64, 64), torch.float32, torch.contiguous_format)
    target = torch.zeros(64, 64, device=DEVICE)
    exact, rounded = losses(x, target, "fp32")[0], losses(x, target, "tf32")[0]
    capability = torch.cuda.get_device_capability(DEVICE)
    assert torch.equal(exact, rounded) == (capability < (8, 0))
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        for setting, expected in (("ieee", exact), ("tf32", rounded)):
            torch.backends.cuda.matmul.fp32_precision = setting
            assert torch.equal(losses(x, target)[0], expected)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def test_on_a_stream_of_its_own() -> None:
    target = torch.randn(64, 64, device=DEVICE)
    x = features((1, 64, 256, 256), torch.bfloat16, torch.channels_last)
    expected = losses(x * 2, target)
    stream = torch.cuda.Stream(DEVICE)
    stream.wait_stream(torch.cuda.current_stream(DEVICE))
    with torch.cuda.stream(stream):
        late = x
        for _ in range(200):  # a queue before the features are there
            late = late * 1
        found = losses(late * 2, target)
    stream.synchronize()
    assert all(map(torch.equal, found, expected))


def captured(work: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """The work as a graph, after it has run once on a side stream."""
    stream = torch.cuda.Stream(DEVICE)
    stream.wait_stream(torch.cuda.current_stream(DEVICE))
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream(DEVICE).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
def test_a_replayed_graph_has_the_same_bits(dtype: torch.dtype) -> None:
    shapes = [(1, 64, 48, 48), (1, 128, 24, 24), (1, 256, 12, 12), (1, 512, 6, 6)]
    xs = [features(shape, dtype, torch.channels_last) for shape in shapes]
    targets = [torch.randn(x.shape[1], x.shape[1], device=DEVICE) for x in xs]
    differences = [torch.empty(1, x.shape[1], x.shape[1], device=DEVICE) for x in xs]
    values = torch.empty(len(xs), device=DEVICE)
    gradients = [torch.empty_like(x) for x in xs]

    def work() -> None:
        gram.style_losses_into(xs, targets, losses=values, differences=differences)
        for x, difference, gradient in zip(xs, differences, gradients, strict=True):
            gram.accumulate_style_gradient(x, difference, 0.1, True, gradient, accumulate=False)

    graph = captured(work)
    for seed in (1, 2):
        for x, shape in zip(xs, shapes, strict=True):
            x.copy_(features(shape, dtype, torch.channels_last, seed))
        work()
        expected = [y.clone() for y in (values, *differences, *gradients)]
        for y in (values, *differences, *gradients):
            y.fill_(torch.nan)
        graph.replay()
        assert all(map(torch.equal, (values, *differences, *gradients), expected))


def test_every_gpu() -> None:
    for index in range(torch.cuda.device_count()):
        x = features((1, 64, 20, 20), torch.float32, torch.contiguous_format).to(f"cuda:{index}")
        if buffers.unavailable_reason(x) is None:
            found = functional.gram_matrix(x, backend="native")
            assert found.device == x.device
            assert torch.allclose(found, reference.gram_matrix(x), rtol=1e-5, atol=1e-6)
    assert torch.cuda.current_device() == 0


def test_tensors_of_two_devices_are_refused() -> None:
    x, d = torch.ones(1, 3, 4, 4, device=DEVICE), torch.ones(1, 3, 3)
    with pytest.raises(InvalidInput, match="difference: expected float32 on cuda:0"):
        gram.accumulate_style_gradient(x, d, 1.0, False, torch.ones_like(x))
    with pytest.raises(InvalidInput, match="features: expected .* on the CPU"):
        gram.style_losses_into([x], [d[0]], losses=torch.ones(1))
