"""The rows of the suite ``ops`` on convolutions: conv + bias + ReLU and its input gradient.

The shapes are VGG-19's for square pictures. ``eager`` is torch's convolution (oneDNN on a CPU) in
NCHW, as the textbook loop has it; ``eager channels_last`` is the same in the layout that suits it
best. On a GPU ``native`` is what engine ``native`` does with cuDNN. Flops are counted as a direct
convolution needs them, 2 · 9 · Ci · Co · H · W each way, so a rate above that of the machine's
matrix product means that Winograd's algorithm saved multiplications.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from benchmarks import environment, floors
from benchmarks.measure import Flusher, interleave
from benchmarks.options import Options
from benchmarks.rows import Row, summary
from benchmarks.suite import Case
from fastnst.engines.planned.cpu import DTYPES
from fastnst.engines.planned.cudnn import arrange_filters, convolve, convolve_relu
from fastnst.ops import convolution, extension

LAYERS = {  # input and output channels, and by how much the picture's sides are divided
    "conv1_1": (3, 64, 1),
    "conv1_2": (64, 64, 1),
    "conv2_1": (64, 128, 2),
    "conv2_2": (128, 128, 2),
    "conv3_1": (128, 256, 4),
    "conv3_2": (256, 256, 4),
    "conv4_1": (256, 512, 8),
    "conv4_2": (512, 512, 8),
    "conv5_1": (512, 512, 16),
}


def cases(options: Options) -> list[Case]:
    """Every size × layer × dtype, forward and input gradient together."""
    layers = ("conv1_2", "conv3_2") if options.quick else tuple(LAYERS)
    sizes = options.choose_sizes(full=(256, 512, 1024), quick=(256,))
    return [
        Case(f"{layer} forward+gradient", size, dtype, {"convolution": layer})
        for dtype in DTYPES
        for size in sizes
        for layer in layers
    ]


def measure(case: Case, options: Options) -> Iterator[Row]:
    layer = (case.details or {})["convolution"]
    channels_in, channels_out, divisor = LAYERS[layer]
    side = max(1, case.size // divisor)
    dtype, device = DTYPES[case.dtype], options.device
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, channels_in, side, side, generator=generator).relu_()
    weight = torch.randn(channels_out, channels_in, 3, 3, generator=generator)
    weight /= (9 * channels_in) ** 0.5
    bias, gradient = torch.zeros(channels_out), torch.randn(1, channels_out, side, side)
    arms: dict[str, Callable[[], object]] = {
        "eager": _eager(x, weight, bias, gradient, dtype, device, torch.contiguous_format),
        "eager channels_last": _eager(
            x, weight, bias, gradient, dtype, device, torch.channels_last
        ),
    }
    reason = extension.unavailable_reason() if device == "cpu" else None
    if device == "cuda":
        if options.wants("native"):
            arms["native"] = _planned(x, weight, bias, gradient, dtype, device)
    elif reason is None:
        for isa in extension.available_isas():
            if not options.wants(f"native {isa}"):
                continue
            with extension.use_isa(isa):
                if dtype is torch.bfloat16 and not extension.convolves_bfloat16():
                    continue
                run = _native(x, weight, bias, gradient, dtype)
            arms[f"native {isa}"] = partial(_with_isa, isa, run)
    samples = interleave(
        arms,
        device=device,
        rounds=options.rounds or 30,
        budget=0.5 if options.quick else 1.5,
        least=2 if options.quick else 3,
        between=Flusher(device),
    )
    flops = 2 * 2 * 9 * channels_in * channels_out * side * side
    ceilings = environment.ceilings(device, options.quick)
    row = partial(Row, "ops", case.title, device=device, dtype=case.dtype, size=case.size)
    for name, sample in samples.items():
        if sample.error or not sample.seconds:
            yield row(name, error=sample.error or "not timed")
            continue
        timing = summary(sample.seconds)
        rate = flops / timing["seconds"]
        yield row(
            name,
            **timing,
            reference_seconds=summary(samples["eager"].seconds)["seconds"],
            extra={
                "gflops": rate / 1e9,
                "ceiling_share": rate / floors.convolution_rate(case.dtype, ceilings),
            },
        )
    if reason is not None and options.wants("native"):
        yield row("native", error=reason)


def _eager(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    gradient: Tensor,
    dtype: torch.dtype,
    device: str,
    layout: torch.memory_format,
) -> Callable[[], object]:
    x, weight, gradient = (t.to(device, dtype, memory_format=layout) for t in (x, weight, gradient))
    bias = bias.to(device, dtype)

    def run() -> None:
        image = x.detach().requires_grad_()
        torch.autograd.grad(conv2d(image, weight, bias, padding=1).relu(), image, gradient)

    return run


def _planned(
    x: Tensor, weight: Tensor, bias: Tensor, gradient: Tensor, dtype: torch.dtype, device: str
) -> Callable[[], object]:
    """What engine ``native`` does on a GPU, where the ReLU's mask is a pass of its own."""
    last = torch.channels_last
    x, gradient = (t.to(device, dtype, memory_format=last) for t in (x, gradient))
    filters = arrange_filters(weight.to(device), bias.to(device), dtype)

    def run() -> None:
        y = convolve_relu(x, filters)
        convolve(torch.ops.aten.threshold_backward(gradient, y, 0), filters.backward)

    return run


def _native(
    x: Tensor, weight: Tensor, bias: Tensor, gradient: Tensor, dtype: torch.dtype
) -> Callable[[], object]:
    """Engine ``native`` on a CPU: the gradient comes masked by this layer's ReLU.

    The previous layer's ReLU masks it while it is written.
    """
    out = torch.empty(gradient.permute(0, 2, 3, 1).shape, dtype=dtype)
    masked = gradient.permute(0, 2, 3, 1).to(dtype).contiguous()
    if x.shape[1] == 3:
        image, first = x.contiguous(), convolution.arrange_image_filters(weight)
        image_gradient = torch.empty_like(image)

        def run_first() -> None:
            convolution.convolve_image(image, first, bias, out=out)
            convolution.image_gradient(masked, first, out=image_gradient)

        return run_first
    features = x.permute(0, 2, 3, 1).to(dtype).contiguous()
    forward = convolution.transform_filters(weight, dtype=dtype)
    backward = forward.way_back()
    back = torch.empty_like(features)

    def run() -> None:
        convolution.convolve(features, forward, bias, relu=True, out=out)
        convolution.convolve(masked, backward, mask=features, out=back)

    return run


def _with_isa(isa: str, run: Callable[[], object]) -> None:
    with extension.use_isa(isa):
        run()
