"""Stages of ``gpu_check.py``: the build, and the kernels of csrc/cuda one by one."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from functools import partial

import torch
from gpu_check import Case, Point
from gpu_machine import ERRORS, Where, last, near, pictures, random
from torch import Tensor
from torch.nn import functional

import fastnst
from fastnst.engines.create import create_engine
from fastnst.network.weights import load_weights
from fastnst.ops import device as kernels
from fastnst.ops import extension
from fastnst.ops.history import BLOCK
from fastnst.settings.settings import Settings
from fastnst.solvers.device.loop import minimise_on_device

ODD = [(64, 31, 45), (128, 17, 9), (3, 5, 7), (130, 1, 12)]  # channels, height, width
REAL = [(64, 512, 512), (128, 256, 256), (256, 128, 128), (512, 64, 64), (512, 32, 32)]
SHARE = 0.5  # of the bandwidth that a copy reaches; a kernel that reads rows once is to reach it


def build(at: Where) -> Iterator[Case]:
    """The extension has code for this GPU, and the driver takes it."""

    def code() -> Point:
        info = extension.build_info()
        reason = None if at.dry else kernels.unavailable_reason(at.device)
        capability = "" if at.dry else str(torch.cuda.get_device_capability(at.device))
        found = {key: str(value) for key, value in info.items()} | {"capability": capability}
        return Point(reason is None, reason or f"built for {info['cuda_architectures']}", found)

    def driver() -> Point:
        found = extension.cuda_devices()
        holds = at.dry or not found["reason"]
        return Point(holds, found["reason"] or f"{len(found['devices'])} devices", found)

    yield Case("code for this GPU", code)
    yield Case("the driver", driver)


def _bandwidth(at: Where, point: Point, moved: float, seconds: float, *, judged: bool) -> Point:
    """The point with its bandwidth; where it is judged it has to be a share of a copy's."""
    if at.dry or not point.holds:
        return point
    rate = moved / seconds
    share = rate / at.copies()
    figures = {**point.figures, "seconds": seconds, "gbps": rate / 1e9, "share": share}
    holds = point.holds and (share >= SHARE or not judged)
    text = f"{point.found}; {1e6 * seconds:.1f} µs, {rate / 1e9:.0f} GB/s, {share:.2f} of a copy"
    return Point(holds, text, figures)


def history(at: Where, length: int, rows: int) -> Iterator[Case]:
    """Both passes over the curvature pairs."""
    held = kernels.DeviceRows(rows, length, at.device)
    x = random(at, length)
    used = torch.tensor(rows, device=at.device)

    def fill() -> Tensor:
        for row in range(rows):
            held.store(torch.tensor(row, device=at.device), random(at, length).roll(row))
        at.wait()
        chunks = len(held.values)
        wide = held.values.view(chunks, rows, -1, BLOCK).double()
        wide = wide * held.scales.double()[..., None]
        found: Tensor = wide.flatten(2).transpose(0, 1).flatten(1)[:, :length]
        return found

    def products() -> Point:
        truth, partials = fill() @ x.double(), held.partials()
        work = lambda: held.products(used, x, partials)
        seconds = at.time(work)
        at.wait()
        point = near(partials.double().sum(0), truth, 1e-5)
        moved = held.values.nbytes + held.scales.nbytes
        return _bandwidth(at, point, moved, seconds, judged=moved > 2**26)

    def combination() -> Point:
        weights, out = random(at, rows), torch.empty_like(x)
        truth = x.double() + weights.double() @ fill()
        seconds = at.time(lambda: held.combine(used, weights, x, out=out))
        at.wait()
        moved = held.values.nbytes + held.scales.nbytes + 8 * length
        return _bandwidth(at, near(out, truth, 1e-5), moved, seconds, judged=moved > 2**26)

    yield Case(f"history products, {rows} × {length}", products)
    yield Case(f"history combination, {rows} × {length}", combination)


def one_layer(at: Where, shape: tuple[int, int, int], dtype: torch.dtype) -> Iterator[Case]:
    """The kernels of a layer of VGG."""
    channels, height, width = shape
    name = f"{channels} × {height} × {width} {str(dtype).removeprefix('torch.')}"
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    features = last(random(at, 1, *shape).sub(0.5).relu().to(dtype))

    def back(pooling: str | None) -> Point:
        pooled = (height // 2, width // 2) if pooling else (height, width)
        above = last(random(at, 1, channels, *pooled, dtype=dtype))
        out = torch.full_like(features, torch.nan)
        squares = kernels.square_sums(features, pooling)
        target = last(random(at, 1, *shape, dtype=dtype))

        def work() -> None:
            kernels.layer_gradient(
                features,
                above,
                pooling=pooling,
                target=target,
                scale=0.25,
                squares=squares,
                out=out,
            )

        seconds = at.time(work)
        at.wait()
        whole = above.double()
        if pooling and above.numel():
            with torch.enable_grad():
                x = features.double().requires_grad_()
                pool = functional.avg_pool2d if pooling == "average" else functional.max_pool2d
                (whole,) = torch.autograd.grad(pool(x, 2), x, above.double())
        elif pooling:
            whole = torch.zeros_like(features, dtype=torch.float64)
        truth = whole + 0.25 * (features.double() - target.double())
        point = near(out, truth.masked_fill(features <= 0, 0), tolerance)
        moved = features.nbytes + target.nbytes + out.nbytes + above.nbytes
        return _bandwidth(at, point, moved, seconds, judged=moved > 2**26)

    def pool(pooling: str) -> Point:
        out = torch.empty(1, channels, height // 2, width // 2, dtype=dtype, device=at.device)
        out = last(out.fill_(torch.nan))
        seconds = at.time(lambda: kernels.pool_features(features, pooling, out=out))
        at.wait()
        pooled = functional.avg_pool2d if pooling == "average" else functional.max_pool2d
        moved = features.nbytes + out.nbytes
        point = near(out, pooled(features, 2).double(), 0.0)  # the same bits
        return _bandwidth(at, point, moved, seconds, judged=moved > 2**26)

    def style(precision: str) -> Point:
        target = random(at, channels, channels)
        losses, s = torch.empty(1, device=at.device), None
        s = kernels.symmetric_differences(features, precision)
        kernels.style_losses([features], [target], losses, [s], precision)
        out = torch.full_like(features, torch.nan)
        kernels.style_gradient(
            features, s, 0.5, out, accumulate=False, relu_mask=True, precision=precision
        )
        at.wait()
        wide = features.double().flatten(2)[0]
        d = wide @ wide.T / wide.shape[1] - target.double()
        loss = near(losses, d.square().mean().view(1), 4 * ERRORS[precision])
        truth = (0.5 * (d + d.T) / 2 @ wide).view_as(features).masked_fill(features <= 0, 0)
        # of the arithmetic, or of a result that is stored in bfloat16
        error = max(2 * ERRORS[precision], tolerance)
        point = near(out, truth, error, loss=loss.figures["error"])
        return Point(bool(loss.holds and point.holds), point.found, point.figures)

    for pooling in (None, "average", "max"):
        yield Case(f"layer gradient {pooling}, {name}", partial(back, pooling))
    for pooling in ("average", "max") if min(height, width) > 1 else ():
        yield Case(f"pool {pooling}, {name}", partial(pool, pooling))
    precisions = ("fp32", "tf32") if dtype == torch.float32 else ("fp32", "bf16")
    for precision in precisions:
        yield Case(f"style {precision}, {name}", partial(style, precision))


def picture(at: Where, height: int, width: int, dtype: torch.dtype) -> Iterator[Case]:
    """The first convolution, both ways."""
    name = f"{height} × {width} {str(dtype).removeprefix('torch.')}"
    weight, bias = random(at, 64, 3, 3, 3) - 0.6, random(at, 64)
    mean, deviation = random(at, 3), random(at, 3) + 0.5
    filters = kernels.arrange_image_filters(weight, bias, mean, deviation)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2

    def forward() -> Point:
        image = random(at, 1, 3, height, width)
        out = last(torch.full((1, 64, height, width), torch.nan, device=at.device, dtype=dtype))
        seconds = at.time(lambda: kernels.image_features(image, filters, relu=True, out=out))
        at.wait()
        x = (image.double() - mean.double()[:, None, None]) / deviation.double()[:, None, None]
        truth = functional.conv2d(x, weight.double(), bias.double(), padding=1).relu()
        moved = image.nbytes + out.nbytes
        return _bandwidth(at, near(out, truth, tolerance), moved, seconds, judged=False)

    def backward() -> Point:
        gradient = last(random(at, 1, 64, height, width, dtype=dtype))
        out = torch.full((1, 3, height, width), torch.nan, device=at.device)
        seconds = at.time(lambda: kernels.image_gradient(gradient, filters, out=out))
        at.wait()
        over = weight.double() / deviation.double()[None, :, None, None]
        truth = functional.conv_transpose2d(gradient.double(), over, padding=1)
        moved = gradient.nbytes + out.nbytes
        return _bandwidth(at, near(out, truth, tolerance), moved, seconds, judged=False)

    yield Case(f"conv1_1, {name}", forward)
    yield Case(f"gradient of conv1_1, {name}", backward)


def smoke(at: Where) -> Iterator[Case]:
    """Every kernel once, on small odd shapes: what the sanitizers run too."""
    for dtype in (torch.float32, torch.bfloat16):
        yield from one_layer(at, ODD[2], dtype)
        yield from picture(at, 9, 37, dtype)
    yield from history(at, 4097, 5)
    yield Case("a whole run", lambda: _short_run(at))


def _short_run(at: Where) -> Point:
    """A run of some iterations: by the public call, or without a recording for the sanitizers."""
    if os.environ.get("PYTORCH_NO_CUDA_MEMORY_CACHING"):
        content, style, image = pictures(at, 48)
        engine = create_engine(load_weights(), content, style, Settings())
        iterates = minimise_on_device(engine.launch, image, iterations=4, record=False)
        losses = [iterate.loss for iterate in iterates]
        return Point(losses[-1] < losses[0], f"loss {losses[0]:.4g} to {losses[-1]:.4g}")
    smooth = importlib.import_module("helpers.pictures").smooth
    result = fastnst.stylize(
        smooth(48, 36), smooth(40, 44, seed=1), size=48, iterations=12, device=at.device.type
    )
    first, end = result.history[0].total, result.losses.total
    return Point(end < first / 2, f"loss {first:.4g} to {end:.4g}, engine {result.engine}")


def alone(at: Where) -> Iterator[Case]:
    """Every kernel alone."""
    for shape in ODD[:3] if at.dry else ODD + REAL:
        for dtype in (torch.float32, torch.bfloat16):
            yield from one_layer(at, shape, dtype)
    for size in ((19, 33),) if at.dry else ((19, 33), (512, 512), (1080, 1920)):
        for dtype in (torch.float32, torch.bfloat16):
            yield from picture(at, *size, dtype)
    yield from history(at, 12345, 7)
    if not at.dry:
        yield from history(at, 3 * 512 * 512, 100)
