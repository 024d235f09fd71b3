"""``ops``: Gram matrix and style loss at VGG-19's five style layers, against eager PyTorch.

Needed flops: G is symmetric, so its triangle needs C(C+1)·N; the gradient 4/(C²N)·(G − A)F needs
2C²·N. Needed bytes: the features once for the loss, once more and the gradient for the backward
pass. ``floor_seconds`` is the time that the needed flops and bytes take at the machine's measured
matrix product and copy, whichever is longer, and ``ceiling_share`` that time over the time
measured. On a GPU ``native graph`` replays the kernels without Python between them, as a run does.
The convolutions have a module of their own, ``convolutions.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from benchmarks import convolutions, environment, tables
from benchmarks.measure import Flusher, interleave
from benchmarks.options import Options
from benchmarks.rows import Row, summary
from benchmarks.suite import Case, Suite
from fastnst.engines.planned.cpu import DTYPES
from fastnst.ops import buffers, extension, gram, style_losses

LAYERS = {  # channels, and by how much the picture's sides are divided
    "relu1_1": (64, 1),
    "relu2_1": (128, 2),
    "relu3_1": (256, 4),
    "relu4_1": (512, 8),
    "relu5_1": (512, 16),
}
ALL = "five layers"
FORWARD, BOTH = "forward", "forward+backward"


def cases(options: Options) -> list[Case]:
    """Every size × layer × dtype × passes, then the convolutions.

    They are grouped so that torch.compile compiles seldom.
    """
    sizes = options.choose_sizes(full=(256, 512, 1024), quick=(256,))
    passes = (BOTH,) if options.quick else (FORWARD, BOTH)
    losses = [
        Case(f"{layer} {what}", size, dtype, {"layer": layer, "passes": what})
        for what, dtype, kind in product(passes, DTYPES, (tuple(LAYERS), (ALL,)))
        for size, layer in product(sizes, kind)
    ]
    return losses + convolutions.cases(options)


def shapes(layer: str, size: int) -> list[tuple[int, int]]:
    """(channels, positions) of one layer, or of all five, for a square picture."""
    chosen = LAYERS.values() if layer == ALL else [LAYERS[layer]]
    return [(channels, max(1, size // divisor) ** 2) for channels, divisor in chosen]


def needed_flops(shape: Sequence[tuple[int, int]], passes: str) -> int:
    """Additions and multiplications that the result takes at least, without fast algorithms."""
    forward = sum(c * (c + 1) * n for c, n in shape)
    return forward if passes == FORWARD else forward + sum(2 * c * c * n for c, n in shape)


def needed_bytes(shape: Sequence[tuple[int, int]], passes: str, dtype: str) -> int:
    """Bytes of features read, and of gradient written, at least."""
    features = sum(c * n for c, n in shape) * DTYPES[dtype].itemsize
    return features if passes == FORWARD else 3 * features


def textbook(features: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """The sum of the style losses as the textbook loop has them, in the features' dtype."""
    total = features[0].new_zeros(())
    for x, target in zip(features, targets, strict=True):
        f = x.flatten(2)[0]
        total = total + mse_loss(f @ f.T / f.shape[1], target)
    return total


def measure(case: Case, options: Options) -> Iterator[Row]:
    details = case.details or {}
    if "convolution" in details:
        yield from convolutions.measure(case, options)
        return
    layer, passes = details["layer"], details["passes"]
    shape = shapes(layer, case.size)
    features, grams = _inputs(shape, DTYPES[case.dtype], options.device)
    own = [gram.to(DTYPES[case.dtype]) for gram in grams]

    def fused(x: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        return style_losses(x, targets, backend="native").sum()

    functions: dict[str, Callable[[], Tensor]] = {"eager": partial(textbook, features, own)}
    few = options.quick or options.device == "cuda"  # compiling for a GPU takes seconds a shape
    if options.wants("compile") and (layer == ALL or not few):
        functions["compile"] = partial(_compiled(passes, case.dtype, layer == ALL), features, own)
    reason = buffers.unavailable_reason(features[0])
    if reason is None and options.device == "cuda":
        if options.wants("native"):
            functions["native"] = partial(fused, features, grams)
    elif reason is None:
        for isa in extension.available_isas():
            if options.wants(f"native {isa}"):
                functions[f"native {isa}"] = partial(_with_isa, isa, fused, features, grams)
    arms: dict[str, Callable[[], object]] = {
        name: partial(_run, function, features, passes == BOTH)
        for name, function in functions.items()
    }
    if "native" in functions and options.wants("native graph"):
        arms["native graph"] = _Replayed(features, grams, passes == BOTH)
    samples = interleave(
        arms,
        device=options.device,
        rounds=options.rounds or 30,
        budget=1.0 if options.quick else 2.0,
        least=2 if options.quick else 3,
        between=Flusher(options.device),
    )
    work = needed_flops(shape, passes), needed_bytes(shape, passes, case.dtype)
    row = partial(Row, "ops", case.title, device=options.device, dtype=case.dtype, size=case.size)
    for name, sample in samples.items():
        if sample.error or not sample.seconds:
            yield row(name, error=sample.error or "not timed")
            continue
        timing = summary(sample.seconds)
        yield row(
            name,
            **timing,
            reference_seconds=summary(samples["eager"].seconds)["seconds"],
            extra=rates(
                timing["seconds"],
                *work,
                case.dtype,
                environment.ceilings(options.device, options.quick),
            ),
        )
    if reason is not None and options.wants("native"):
        yield row("native", error=reason)


def rates(
    seconds: float, flops: int, moved: int, dtype: str, ceilings: Mapping[str, float]
) -> dict[str, float]:
    """``gflops``, ``gbps``, ``floor_seconds`` and ``ceiling_share``."""
    arithmetic = flops / ceilings[f"gemm_{dtype}_flops"]
    traffic = moved / ceilings["copy_bytes_per_second"]
    floor = max(arithmetic, traffic)
    return {
        "gflops": flops / seconds / 1e9,
        "gbps": moved / seconds / 1e9,
        "floor_seconds": floor,
        "ceiling_share": floor / seconds,
    }


def _run(function: Callable[[], Tensor], features: Sequence[Tensor], backward: bool) -> None:
    with torch.set_grad_enabled(backward):
        for x in features:
            x.requires_grad_(backward)
        total = function()
        if backward:
            torch.autograd.grad(total, list(features))


class _Replayed:
    """The losses, and their gradients, as a CUDA graph that the first call captures."""

    def __init__(self, features: Sequence[Tensor], grams: Sequence[Tensor], backward: bool) -> None:
        self.features, self.grams, self.backward = features, grams, backward
        self.losses = features[0].new_empty(len(features), dtype=torch.float32)
        self.differences = [gram.new_empty(1, *gram.shape) for gram in grams]
        self.gradients = [torch.empty_like(x) for x in features]
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self.graph is None:
            self._launch()  # loads the kernels
            torch.cuda.synchronize()
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._launch()
        self.graph.replay()

    def _launch(self) -> None:
        features = [x.detach() for x in self.features]
        gram.style_losses_into(
            features, self.grams, losses=self.losses, differences=self.differences
        )
        layers = zip(features, self.differences, self.gradients, strict=True)
        for x, difference, gradient in layers if self.backward else ():
            scale = 4 / (x.shape[1] ** 2 * x[0, 0].numel())
            gram.accumulate_style_gradient(x, difference, scale, False, gradient, accumulate=False)


def _with_isa(isa: str, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    with extension.use_isa(isa):
        return function(*arguments)


_compiled_for: tuple[tuple[str, str, bool], Callable[..., Tensor]] | None = None


def _compiled(passes: str, dtype: str, whole: bool) -> Callable[..., Tensor]:
    """``torch.compile`` with its defaults, started afresh for each group of cases.

    Within a group it specialises on the first shape and then compiles once for all shapes.
    """
    global _compiled_for
    key = (passes, dtype, whole)
    if _compiled_for is None or _compiled_for[0] != key:
        torch._dynamo.reset()
        _compiled_for = (key, torch.compile(textbook))
    return _compiled_for[1]


def _inputs(
    shape: Sequence[tuple[int, int]], dtype: torch.dtype, device: str
) -> tuple[list[Tensor], list[Tensor]]:
    """Features after a ReLU with mean activation about 1, and Gram matrices of others like them."""
    generator = torch.Generator().manual_seed(0)
    features, grams = [], []
    for channels, positions in shape:
        x = torch.randn(1, channels, positions, 1, generator=generator).relu_().mul_(2.5)
        features.append(x.to(device, dtype))
        f = torch.randn(channels, 4096, generator=generator).relu_().mul_(2.5)
        grams.append((f @ f.T / f.shape[1]).to(device))
    return features, grams


SUITE = Suite(
    "ops",
    "Gram matrix and style loss at VGG-19's style layers, and its convolutions, against the same "
    "in eager PyTorch.",
    cases,
    measure,
    "eager",
    table=tables.grid,
)
