"""autograd, torch.library, torch.compile and vmap around the kernels."""

import pytest
import torch

from fastnst.ops import functional, gram, reference
from helpers import kernel_oracle as oracle
from helpers.kernels import needs_native

pytestmark = needs_native


def layers(dtype: torch.dtype = torch.float32) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    features = [torch.randn(2, 5, 6, 7), torch.randn(1, 18, 5, 3), torch.randn(1, 4, 1, 1)]
    features[1] = features[1].to(memory_format=torch.channels_last)
    targets = [torch.randn(2, 5, 5), torch.randn(18, 18), torch.randn(4, 4)]
    return [x.to(dtype) for x in features], targets


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_opcheck(dtype: torch.dtype) -> None:
    features, targets = layers(dtype)
    features.append(torch.randn(1, 3, 8, 4).to(dtype).transpose(2, 3))  # must be copied
    targets.append(torch.randn(3, 3))
    for x in features:
        torch.library.opcheck(torch.ops.fastnst.gram_matrix.default, (x,))
    torch.library.opcheck(torch.ops.fastnst.style_losses.default, (features, targets))
    weights = [torch.randn(x.shape[0], x.shape[1], x.shape[1]) for x in features]
    arguments = (features, weights, torch.rand(len(features)))
    torch.library.opcheck(torch.ops.fastnst.gram_gradients.default, arguments)


def test_gram_matrix_gradient() -> None:
    for x in layers()[0]:
        weight = torch.randn(x.shape[0], x.shape[1], x.shape[1])
        leaf = x.clone().requires_grad_()
        gram = functional.gram_matrix(leaf, backend="native")
        (gram * weight).sum().backward()
        truth = oracle.weighted(x, weight) * 2 / (x.shape[2] * x.shape[3])
        assert oracle.error(leaf.grad, truth) <= 1e-6
        assert leaf.grad.stride() == x.stride()


def test_gradient_of_the_target() -> None:
    features, targets = layers()
    results = []
    for backend in ("native", "torch"):
        leaves = [t.clone().requires_grad_() for t in targets]
        functional.style_losses(features, leaves, backend=backend).sum().backward()
        results.append([leaf.grad for leaf in leaves])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-7)


def test_only_what_is_asked_for() -> None:
    features, targets = layers()
    features[1].requires_grad_()
    targets[2].requires_grad_()
    functional.style_losses(features, targets, backend="native").sum().backward()
    assert features[1].grad is not None
    assert targets[2].grad is not None
    assert features[0].grad is None
    assert targets[1].grad is None


def test_no_grad() -> None:
    features, targets = layers()
    with torch.no_grad():
        loss = functional.style_losses([x.requires_grad_() for x in features], targets)
    assert not loss.requires_grad


def test_second_derivatives() -> None:
    features, targets = layers()
    x, target = features[0], targets[0]
    direction, other = torch.randn_like(x), torch.randn_like(target)
    results = []
    for backend in ("native", "torch"):
        f, a = x.clone().requires_grad_(), target.clone().requires_grad_()
        loss = functional.style_loss(f, a, backend=backend)
        df, da = torch.autograd.grad(loss, (f, a), create_graph=True)
        product = (df * direction).sum() + (da * other).sum()
        results.append(torch.autograd.grad(product, (f, a), create_graph=True))
        third = torch.autograd.grad(results[-1][0].square().sum(), f)[0]
        results[-1] = (*results[-1], third)
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_second_derivatives_of_the_gram_matrix() -> None:
    x, weight = torch.randn(4, 5, 6), torch.randn(4, 4)
    direction = torch.randn_like(x)
    results = []
    for backend in ("native", "torch"):
        f, w = x.clone().requires_grad_(), weight.clone().requires_grad_()
        gram = functional.gram_matrix(f, backend=backend)
        (df,) = torch.autograd.grad((gram.square() * w).sum(), f, create_graph=True)
        results.append(torch.autograd.grad((df * direction).sum(), (f, w)))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_vmap() -> None:
    x, target = torch.randn(3, 2, 5, 6, 7), torch.randn(5, 5, 3)

    def loss(f: torch.Tensor, a: torch.Tensor, backend: str) -> torch.Tensor:
        return functional.style_loss(f, a, backend=backend)

    results = []
    for backend in ("native", "torch"):
        many = torch.func.vmap(lambda f, a, b=backend: loss(f, a, b), in_dims=(0, 2))
        grads = torch.func.vmap(torch.func.grad(lambda f, a, b=backend: loss(f, a, b)), (0, 2))
        grams = torch.func.vmap(lambda f, b=backend: functional.gram_matrix(f, backend=b))
        shared = torch.func.vmap(lambda f, b=backend: loss(f, target[..., 0], b))
        results.append((many(x, target), grads(x, target), grams(x), shared(x)))
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_grad_transform() -> None:
    x, target = torch.randn(5, 6, 7), torch.randn(5, 5)
    ours = torch.func.grad(lambda f: functional.style_loss(f, target, backend="native"))(x)
    assert oracle.error(ours, oracle.gradient(x, target)) <= 2e-6


@pytest.mark.filterwarnings("ignore")
def test_compile_has_no_graph_break() -> None:
    features, targets = layers()

    def loss(fs: list[torch.Tensor]) -> torch.Tensor:
        gram = functional.gram_matrix(fs[0], backend="native")
        single = functional.style_loss(fs[0], targets[0], backend="native")
        return functional.style_losses(fs, targets, backend="native").sum() + gram.sum() + single

    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaves = [x.clone().requires_grad_() for x in features]
        value = function(leaves)
        value.backward()
        results.append((value.detach(), *(leaf.grad for leaf in leaves)))
    for eager, compiled in zip(*results, strict=True):
        assert torch.allclose(eager, compiled, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("out_dtype", [torch.float32, torch.bfloat16], ids=["f32", "b16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("mask", [False, True], ids=["plain", "relu"])
@pytest.mark.parametrize("accumulate", [False, True], ids=["write", "add"])
def test_accumulate(
    isa: str,
    dtype: torch.dtype,
    out_dtype: torch.dtype,
    channels_last: bool,
    mask: bool,
    accumulate: bool,
) -> None:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for shape in [(2, 37, 13, 11), (1, 64, 16, 16)]:
        x = torch.randn(shape).to(dtype).contiguous(memory_format=layout)
        x[0, 3, 2, :4] = torch.tensor([0.0, -0.0, torch.nan, 1e-30]).to(dtype)
        difference = torch.randn(shape[0], shape[1], shape[1])
        out = torch.randn(shape).to(out_dtype).contiguous(memory_format=layout)
        before = out.double()
        gram.accumulate_style_gradient(x, difference, 0.25, mask, out, accumulate=accumulate)
        finite = x.nan_to_num()
        truth = 0.25 * oracle.weighted(finite, difference)
        if mask:
            truth = torch.where(finite.double() <= 0, 0.0, truth)
        truth = truth + before if accumulate else truth
        # the NaN reaches every channel of its position, but the masked ones
        nan = torch.zeros(shape, dtype=torch.bool)
        nan[0, :, 2, 2] = True
        if mask:
            nan &= ~(x <= 0)
        assert torch.equal(out.isnan(), nan)
        result = torch.where(nan, truth, out.double())
        exact = dtype == out_dtype == torch.float32
        assert oracle.error(result, truth) <= (2e-6 if exact else 6e-3)
        # masked entries are untouched, to the bit
        if mask:
            kept = before if accumulate else torch.zeros_like(before)
            assert torch.equal(out.double()[x <= 0], kept[x <= 0])


def test_into_given_buffers() -> None:
    features, targets = layers()
    losses = torch.empty(3)
    squares = [(x.shape[0], x.shape[1], x.shape[1]) for x in features]
    grams, differences = [torch.empty(s) for s in squares], [torch.empty(s) for s in squares]
    gram.style_losses_into(features, targets, losses=losses, differences=differences, grams=grams)
    assert torch.allclose(losses, reference.style_losses(features, targets))
    for x, target, computed, difference in zip(features, targets, grams, differences, strict=True):
        assert torch.equal(computed, functional.gram_matrix(x, backend="native"))
        assert torch.equal(difference, computed - target)
