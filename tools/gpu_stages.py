"""The stages of ``gpu_check.py``: what is looked at, and when it holds."""

from __future__ import annotations

import contextlib
import importlib
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gpu_commands
import gpu_model
import torch
from gpu_check import Case, Point
from torch import Tensor
from torch.nn import functional

import fastnst
from fastnst.engines.create import create_engine
from fastnst.engines.planned import cudnn
from fastnst.engines.torch_engine import TorchEngine
from fastnst.network.weights import load_weights
from fastnst.objective.build import build_objective
from fastnst.ops import device as kernels
from fastnst.ops import extension
from fastnst.settings.settings import Settings
from fastnst.solvers.device.loop import minimise_on_device

ODD = [(64, 31, 45), (128, 17, 9), (3, 5, 7), (130, 1, 12)]  # channels, height, width
REAL = [(64, 512, 512), (128, 256, 256), (256, 128, 128), (512, 64, 64), (512, 32, 32)]
SHARE = 0.5  # of the bandwidth that a copy reaches; a kernel that reads rows once is to reach it
# Largest errors, of the norm: float32 rounds at 2^-24 and sums up to 4608 terms, TF32 at 2^-11 and
# bfloat16 at 2^-8 each factor; up to 13 layers add up.
ERRORS = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 3e-2}
CONTROLS: dict[str, dict[str, Any]] = {
    "default": {},
    "tv": {"tv_weight": 1.0},
    "tv nine-point": {"tv_weight": 1.0, "tv_form": "nine-point"},
    "tv absolute-sum": {"tv_weight": 1e-3, "tv_form": "absolute-sum"},
    "gradient norm l1": {"gradient_norm": "l1"},
    "covariance and means": {"statistics": ("covariance", "mean-std")},
    "max pooling": {"pooling": "max"},
    "l2 pooling": {"pooling": "l2"},
    "replicate": {"padding": "replicate"},
    "preset fast": {"optimizer": "spectral"},
}


@dataclass
class Where:
    """The machine that is looked at.

    Attributes:
        device: The GPU, or the CPU in a dry run.
        dry: Whether the kernels run in the emulator, at small sizes.
        out: Folder of results.
        machine: Its name, to tell results of different machines apart.
    """

    device: torch.device
    dry: bool
    out: Path
    machine: str
    bandwidth: float = field(default=0.0)  # bytes per second, measured when it is first wanted

    def wait(self) -> None:
        """Until all that was launched is done; errors of kernels come out here."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def time(self, work: Callable[[], object], repeats: int = 20) -> float:
        """Seconds of one run by the GPU's own events, over several; 0 in a dry run."""
        if self.dry:
            work()
            return 0.0
        work()
        begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        begin.record()
        for _ in range(repeats):
            work()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / repeats

    def copies(self) -> float:
        """Bytes per second that a large copy reads and writes."""
        if not self.bandwidth and not self.dry:
            a = torch.empty(2**28, dtype=torch.uint8, device=self.device)
            b = torch.empty_like(a)
            self.bandwidth = 2 * a.numel() / self.time(lambda: b.copy_(a))
        return self.bandwidth

    def shapes(self) -> list[tuple[int, int, int]]:
        """Odd shapes, and on a GPU those of VGG-19 at 512 px."""
        return ODD[:3] if self.dry else ODD + REAL


@contextlib.contextmanager
def where(*, dry: bool, out: Path) -> Iterator[Where]:
    """The machine; in a dry run the emulator takes the GPU's place while it lasts."""
    if not dry:
        if not torch.cuda.is_available():
            raise SystemExit("no GPU that torch sees; --dry-run looks at the logic without one")
        name = torch.cuda.get_device_name()
        yield Where(torch.device("cuda", torch.cuda.current_device()), False, out, name)
        return
    library = importlib.import_module("helpers.cuda_emulator.library")
    compiler = shutil.which("g++")
    if compiler is None:
        raise SystemExit("a dry run compiles the kernels for the CPU: g++ is not on the path")
    with library.in_place_of_a_gpu(library.shared_library(compiler)):
        yield Where(torch.device("cpu"), True, out, f"dry run on {platform.machine()}")


def near(found: Tensor, truth: Tensor, error: float, **figures: Any) -> Point:
    """Whether the norm of the difference is at most ``error`` of the norm of the truth."""
    distance = float((found.double() - truth).norm())
    size = float(truth.norm())
    off = distance / size if size else distance
    holds = bool(found.isfinite().all()) and off <= error
    return Point(holds, f"off by {off:.2e}, at most {error:.0e}", {"error": off, **figures})


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


# ----------------------------------------------------------------------------------------- build --


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


# --------------------------------------------------------------------------------------- kernels --


def _random(at: Where, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator(at.device).manual_seed(sum(shape))
    return (torch.rand(shape, generator=generator, device=at.device) + 0.1).to(dtype)


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
    x = _random(at, length)
    used = torch.tensor(rows, device=at.device)

    def fill() -> Tensor:
        for row in range(rows):
            held.store(torch.tensor(row, device=at.device), _random(at, length).roll(row))
        at.wait()
        chunks = len(held.values)
        wide = held.values.view(chunks, rows, -1, kernels.BLOCK).double()
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
        weights, out = _random(at, rows), torch.empty_like(x)
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
    features = last(_random(at, 1, *shape).sub(0.5).relu().to(dtype))

    def back(pooling: str | None) -> Point:
        pooled = (height // 2, width // 2) if pooling else (height, width)
        above = last(_random(at, 1, channels, *pooled, dtype=dtype))
        out = torch.full_like(features, torch.nan)
        squares = kernels.square_sums(features, pooling)
        target = last(_random(at, 1, *shape, dtype=dtype))

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

    def style(precision: str) -> Point:
        target = _random(at, channels, channels)
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
    precisions = ("fp32", "tf32") if dtype == torch.float32 else ("fp32", "bf16")
    for precision in precisions:
        yield Case(f"style {precision}, {name}", partial(style, precision))


def picture(at: Where, height: int, width: int, dtype: torch.dtype) -> Iterator[Case]:
    """The first convolution, both ways."""
    name = f"{height} × {width} {str(dtype).removeprefix('torch.')}"
    weight, bias = _random(at, 64, 3, 3, 3) - 0.6, _random(at, 64)
    mean, deviation = _random(at, 3), _random(at, 3) + 0.5
    filters = kernels.arrange_image_filters(weight, bias, mean, deviation)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2

    def forward() -> Point:
        image = _random(at, 1, 3, height, width)
        out = last(torch.full((1, 64, height, width), torch.nan, device=at.device, dtype=dtype))
        seconds = at.time(lambda: kernels.image_features(image, filters, relu=True, out=out))
        at.wait()
        x = (image.double() - mean.double()[:, None, None]) / deviation.double()[:, None, None]
        truth = functional.conv2d(x, weight.double(), bias.double(), padding=1).relu()
        moved = image.nbytes + out.nbytes
        return _bandwidth(at, near(out, truth, tolerance), moved, seconds, judged=False)

    def backward() -> Point:
        gradient = last(_random(at, 1, 64, height, width, dtype=dtype))
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
    smooth = importlib.import_module("helpers.pictures").smooth
    result = fastnst.stylize(
        smooth(48, 36), smooth(40, 44, seed=1), size=48, iterations=12, device=at.device.type
    )
    first, end = result.history[0].total, result.losses.total
    return Point(end < first / 2, f"loss {first:.4g} to {end:.4g}, engine {result.engine}")


def alone(at: Where) -> Iterator[Case]:
    """Every kernel alone."""
    for shape in at.shapes():
        for dtype in (torch.float32, torch.bfloat16):
            yield from one_layer(at, shape, dtype)
    for size in ((19, 33),) if at.dry else ((19, 33), (512, 512), (1080, 1920)):
        for dtype in (torch.float32, torch.bfloat16):
            yield from picture(at, *size, dtype)
    yield from history(at, 12345, 7)
    if not at.dry:
        yield from history(at, 3 * 512 * 512, 100)


# ---------------------------------------------------------------------------- layers and plans --


def _pictures(at: Where, size: int) -> tuple[Tensor, Tensor, Tensor]:
    pictures = importlib.import_module("helpers.engines").pictures
    content, style, image = (x.to(at.device) for x in pictures(size, size - 7))
    return content, style, image


def layers(at: Where) -> Iterator[Case]:
    """Losses and gradient of the whole network against float64, and features layer by layer."""
    size = 40 if at.dry else 160
    precisions = ("fp32",) if at.dry else ("fp32", "tf32", "bf16")

    def compared(precision: str) -> Point:
        settings = Settings(precision="bf16" if precision == "bf16" else "fp32")
        weights = load_weights()
        content, style, image = _pictures(at, size)
        exact, painting = content.cpu().double(), style.cpu().double()
        truth = TorchEngine(build_objective(weights, exact, painting, settings, "torch"))
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=precision == "tf32"):
            engine = create_engine(weights, content, style, settings)
            evaluation = engine.evaluate(image)
            at.wait()
        expected = truth.evaluate(image.cpu().double())
        errors: dict[str, float] = {}
        for kind in ("content", "style"):
            ours, theirs = getattr(evaluation.terms, kind), getattr(expected.terms, kind)
            for key in theirs:
                off = abs(float(ours[key]) - float(theirs[key])) / float(theirs[key])
                errors[f"{kind} {key}"] = off
        gradient = near(evaluation.gradient.cpu(), expected.gradient, 10 * ERRORS[precision])
        worst = max(errors, key=lambda key: errors[key])
        holds = errors[worst] <= 4 * ERRORS[precision] and bool(gradient.holds)
        text = f"worst loss {worst} {errors[worst]:.1e}; gradient {gradient.found}"
        return Point(holds, text, {**errors, **gradient.figures})

    def by_layer(precision: str) -> Point:
        """Where an error comes in: each layer's features, from the features before in float64."""
        weights = load_weights()
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        x = _random(at, 1, 3, size, size)
        errors: dict[str, float] = {}
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=precision == "tf32"):
            for name, tensor in weights.tensors.items():
                if not name.endswith(".weight") or name == "conv1_1.weight":
                    continue
                weight = tensor.to(at.device)
                bias = weights.tensors[name.replace("weight", "bias")].to(at.device)
                filters = cudnn.arrange_filters(weight, bias, dtype)
                channels = weight.shape[1]
                x = last(_random(at, 1, channels, 24, 19, dtype=dtype))
                y = cudnn.convolve_relu(x, filters)
                at.wait()
                exact, shift = filters.forward.double(), filters.bias.double()
                truth = functional.conv2d(x.double(), exact, shift, padding=1).relu()
                errors[name] = near(y, truth, 1.0).figures["error"]
        worst = max(errors, key=lambda key: errors[key])
        text = f"worst {worst}: {errors[worst]:.1e}, at most {ERRORS[precision]:.0e}"
        return Point(errors[worst] <= ERRORS[precision], text, errors)

    for precision in precisions:
        yield Case(f"features layer by layer, {precision}", partial(by_layer, precision))
        yield Case(f"losses and gradient, {precision}", partial(compared, precision))


def plans(at: Where) -> Iterator[Case]:
    """Every convolution of VGG-19 to relu5_1, both directions, by every way there is."""
    weights = load_weights()
    side = 24 if at.dry else 512
    block = 0
    for name in (n for n in weights.tensors if n.endswith(".weight")):
        number = int(re.findall(r"conv(\d)_", name)[0])
        if number != block and block:
            side //= 2
        block = number
        if name.startswith("conv5") and name != "conv5_1.weight":
            continue
        for dtype in (torch.float32, torch.bfloat16):
            kind = str(dtype).removeprefix("torch.")
            yield Case(
                f"{name.removesuffix('.weight')} {side} {kind}",
                partial(_ways, at, weights.tensors[name], side, dtype),
            )


def _ways(at: Where, tensor: Tensor, side: int, dtype: torch.dtype) -> Point:
    """Times and errors of the ways to compute a convolution, into memory full of NaN."""
    weight = tensor.to(at.device)
    filters = cudnn.arrange_filters(weight, _random(at, weight.shape[0]), dtype)
    error = 2e-2 if dtype == torch.bfloat16 else 5e-3
    image = last(_random(at, 1, weight.shape[1], side, side, dtype=dtype))
    above = last(_random(at, 1, weight.shape[0], side, side, dtype=dtype))
    weights, bias = filters.forward.double(), filters.bias.double()
    forward = functional.conv2d(image.double(), weights, bias, padding=1).relu()
    backward = functional.conv2d(above.double(), filters.backward.double(), padding=1)
    ways: dict[str, tuple[Tensor, Callable[[], Tensor]]] = {
        "forward": (
            forward,
            lambda: cudnn.convolve(image, filters.forward, filters.bias).relu_(),
        ),
        "backward": (backward, lambda: cudnn.convolve(above, filters.backward)),
    }
    if not at.dry:
        ways["forward fused"] = (forward, lambda: cudnn.fused(image, filters, 1))
    figures: dict[str, Any] = {}
    for name, (truth, work) in ways.items():
        for benchmark in (False, True):
            key = f"{name} benchmark" if benchmark else name
            with torch.backends.cudnn.flags(enabled=True, benchmark=benchmark, allow_tf32=True):
                try:
                    _poison(at, truth.numel() * image.element_size())
                    point = near(work(), truth, error)
                    figures[key] = {"seconds": at.time(work), "holds": point.holds}
                    figures[key] |= point.figures
                except RuntimeError as reason:
                    figures[key] = {"reason": str(reason).splitlines()[0][:200]}
    # a way may be wrong or missing, but the one that the engine takes may not
    _poison(at, forward.numel() * image.element_size())
    taken = near(cudnn.convolve_relu(image, filters), forward, error)
    plain = all(figures[name].get("holds") for name in ("forward", "backward"))
    times = {k: round(1e6 * v["seconds"], 1) for k, v in figures.items() if "seconds" in v}
    return Point(bool(taken.holds and plain), f"taken: {taken.found}; µs {times}", figures)


def _poison(at: Where, size: int) -> None:
    """Leave NaN in the memory that torch hands out next."""
    junk = [torch.full((max(size // 4, 1),), torch.nan, device=at.device) for _ in range(3)]
    at.wait()
    del junk


# ----------------------------------------------------------------------------- graph and profile --


def graph(at: Where) -> Iterator[Case]:
    """Replay is eager, bit for bit; and how many kernels an iteration launches."""
    size = 24 if at.dry else 96
    for name, control in CONTROLS.items():
        for precision in ("fp32",) if at.dry else ("fp32", "bf16"):
            yield Case(
                f"{name} {precision}",
                partial(_replayed, at, {**control, "precision": precision}, size),
            )
    if not at.dry:
        yield Case("default at 512 px", lambda: _replayed(at, {"precision": "bf16"}, 512))


def _replayed(at: Where, control: dict[str, Any], size: int) -> Point:
    layers_ = {"style_layers": ("relu1_1", "relu2_1"), "content_layers": ("relu2_2",)}
    settings = Settings(**({**layers_, **control} if at.dry else control))
    content, style, image = _pictures(at, size)
    runs: list[list[Tensor]] = []
    for record in (False, True):
        engine = create_engine(load_weights(), content, style, settings)
        iterates = minimise_on_device(
            engine.evaluate,
            image,
            iterations=4 if at.dry else 20,
            history_size=3 if at.dry else 6,
            optimizer=settings.optimizer,
            record=record,
        )
        runs.append(
            [torch.cat([i.image.flatten(), i.image.new_tensor([i.loss])]) for i in iterates]
        )
    equal = [torch.equal(a, b) for a, b in zip(*runs, strict=True)]
    wrong = equal.index(False) if False in equal else None
    text = f"{len(equal)} iterates" if wrong is None else f"differs from iterate {wrong} on"
    return Point(wrong is None, text)


def profile(at: Where) -> Iterator[Case]:
    """The kernels of an iteration beside the model of it."""
    for precision in ("fp32",) if at.dry else ("fp32", "bf16"):
        yield Case(f"one iteration {precision}", partial(_profiled, at, precision))


def _profiled(at: Where, precision: str) -> Point:
    from torch.profiler import ProfilerActivity

    size = 40 if at.dry else 512
    content, style, image = _pictures(at, size)
    engine = create_engine(load_weights(), content, style, Settings(precision=precision))
    iterates = minimise_on_device(engine.evaluate, image, iterations=12 if at.dry else 60)
    for _ in range(6):
        next(iterates)
    kinds = [ProfilerActivity.CPU] + ([] if at.dry else [ProfilerActivity.CUDA])
    with torch.profiler.profile(activities=kinds) as profiler:
        steps = sum(1 for _ in iterates)
        at.wait()
    events = profiler.key_averages()
    table = [
        {
            "name": event.key[:120],
            "count": event.count / steps,
            "microseconds": getattr(event, "self_device_time_total", 0) / steps,
        }
        for event in events
    ]
    launched = sum(row["count"] for row in table if row["microseconds"])
    total = sum(row["microseconds"] for row in table)
    model = gpu_model.iteration(512, precision)
    text = (
        f"{launched:.0f} kernels and {total:.0f} µs an iteration; the model has "
        f"{model.launches} and {1e6 * model.seconds(gpu_model.H100):.0f}"
    )
    # twice the model's launches: one of ours has been replaced by operators
    holds = bool(table) and (at.dry or launched <= 2 * model.launches)
    return Point(holds, text, {"table": table, "launches": launched, "microseconds": total})


# ------------------------------------------------------------------------------------------ ONNX --


def onnx(at: Where) -> Iterator[Case]:
    """ONNX Runtime's providers for a GPU: one evaluation against PyTorch's, with bound memory."""
    for provider in ("cpu",) if at.dry else ("cuda", "tensorrt"):
        yield Case(provider, partial(_provider, at, provider))


def _provider(at: Where, provider: str) -> Point:
    from fastnst.engines.onnx import providers

    if reason := providers.unavailable_reason(provider, at.device):
        return Point(None, f"it cannot run here: {reason}")
    settings = Settings(engine="onnx", provider=provider, precision="fp32")
    content, style, image = _pictures(at, 40 if at.dry else 128)
    weights = load_weights()
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        engine = create_engine(weights, content, style, settings)
        got = engine.evaluate(image)
        expected = TorchEngine(
            build_objective(weights, content, style, settings, "torch")
        ).evaluate(image)
        at.wait()
    seconds = at.time(lambda: engine.evaluate(image), 5)
    point = near(got.gradient, expected.gradient.double(), 1e-3, seconds=seconds)
    return Point(point.holds, f"gradient {point.found}; {1e3 * seconds:.2f} ms", point.figures)


STAGES: dict[str, Callable[[Where], Iterator[Case]]] = {
    "build": build,
    "smoke": smoke,
    "kernels": alone,
    "layers": layers,
    "plans": plans,
    "graph": graph,
    "profile": profile,
    "sanitize": gpu_commands.sanitize,
    "onnx": onnx,
    "tests": gpu_commands.tests,
    "bench": gpu_commands.bench,
}
