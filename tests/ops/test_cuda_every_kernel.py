"""Every kernel of csrc/cuda by name: what covers it, in the emulator.

``WORKS`` is the table. Each work is on random positive data, so that no error cancels in a sum, of
an odd shape in every order of blocks and threads, and of 10⁶ positions. A kernel that no work
launches fails here. The corners of each kernel are in test_cuda_kernels.py and
test_cuda_iteration.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fastnst.ops import device
from fastnst.ops.history import BLOCK
from fastnst.solvers.device import memory as places
from fastnst.solvers.device.memory import SolverMemory
from fastnst.solvers.device.steps import KernelSteps
from fastnst.solvers.projected import LONGEST_STEP
from helpers.cuda_bounds import SUMS
from helpers.cuda_emulator.library import (
    MODES,
    NEEDED,
    Emulator,
    Gradient,
    in_place_of_a_gpu,
    shared_library,
)
from helpers.tools import load_tool

pytestmark = NEEDED

FLOAT = 2.0**-23  # the distance of 1 to the next float32
DOUBLE = 1e-12  # sums of 10⁶ doubles: 2⁻⁵² each, in blocks
BFLOAT16 = 2.0**-8
CHUNK = 40 * FLOAT  # a chunk's share of a product: 32 + 5 roundings in a row


@dataclass(frozen=True)
class Number:
    """What was found, what is true, and how far apart they may be, entry by entry."""

    found: Tensor
    truth: Tensor
    bound: Tensor | float


Work = Callable[[Emulator, int, int], list[Number]]


def positive(emulator: Emulator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Between 0.1 and 1.1, beside a page that may not be touched; features in channels_last."""
    x = (torch.rand(shape) + 0.1).to(dtype)
    if len(shape) == 4 and shape[1] != 3:
        return emulator.tensor(x.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)
    return emulator.tensor(x)


def style(emulator: Emulator, height: int, width: int) -> list[Number]:
    """Gram matrices, their differences and losses, and the style gradient, in bfloat16."""
    channels, scale = 4, 0.5
    f = positive(emulator, 1, channels, height, width, dtype=torch.bfloat16)
    target = positive(emulator, channels, channels)
    losses = emulator.tensor(torch.empty(1))
    s = emulator.tensor(device.symmetric_differences(f, "bf16"))
    device.style_losses([f], [target], losses, [s], "bf16")
    out = emulator.tensor(f.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)
    device.style_gradient(f, s, scale, out, accumulate=False, relu_mask=True, precision="bf16")
    wide = f.double().flatten(2)[0]
    gram = wide @ wide.T / wide.shape[1]
    d = gram - target.double()
    symmetric = (d + d.T) / 2
    half = s[0, :, :channels].double()
    gradient = scale * (half @ wide).view(f.shape)
    size = scale * (half.abs() @ wide).view(f.shape)
    slack = SUMS * (gram + target.double())
    return [
        Number(s[0, :, :channels], symmetric, slack + BFLOAT16 * symmetric.abs()),
        Number(losses[0], d.square().mean(), float((2 * d.abs() * slack).mean()) + FLOAT),
        Number(out, gradient, BFLOAT16 * gradient.abs() + SUMS * size),
    ]


def difference(emulator: Emulator, height: int, width: int) -> list[Number]:
    """The style gradient of a difference that is not symmetric, in float32."""
    x, d = torch.rand(1, 4, height * width) + 0.1, torch.rand(1, 4, 4) + 0.1
    out = torch.empty_like(x)
    (found,) = emulator.gradient([Gradient(x, d, 0.5, False, out, False)], "fp32")
    truth = 0.5 * (d + d.mT).double() / 2 @ x.double()
    return [Number(found, truth, SUMS * truth)]


def unpacked(rows: device.DeviceRows, used: int) -> Tensor:
    """The rows in float64 as they are kept, ``(used, n)``."""
    blocks = rows.values.unflatten(2, (-1, BLOCK)).double() * rows.scales.double()[..., None]
    return blocks.flatten(2).transpose(0, 1).flatten(1)[:used, : rows.length]


def held(emulator: Emulator, rows: int, length: int) -> device.DeviceRows:
    """Empty rows beside pages that may not be touched."""
    made = device.DeviceRows(rows, length, torch.device("cpu"))
    made.values, made.scales = emulator.tensor(made.values), emulator.tensor(made.scales)
    return made


def eight_bits(found: Tensor, x: Tensor) -> Number:
    """A row ``(n,)`` that was kept, against its values."""
    padded = functional.pad(x.double(), (0, -len(x) % BLOCK)).unflatten(0, (-1, BLOCK))
    largest = padded.abs().amax(1).repeat_interleave(BLOCK)[: len(x)]
    # half a step of 1/127, and the roundings of the scale and of its inverse
    return Number(found, x.double(), largest / 254 * (1 + 300 * FLOAT))


def history(emulator: Emulator, height: int, width: int) -> list[Number]:
    """Rows are kept, multiplied and combined."""
    length, used = height * width, 3
    rows, x = held(emulator, 5, length), positive(emulator, length)
    given = [positive(emulator, length) for _ in range(used)]
    for index, row in enumerate(given):
        rows.store(torch.tensor(index), row)
    wide = unpacked(rows, used)
    partials = emulator.tensor(rows.partials())
    rows.products(torch.tensor(used), x, partials)
    weights, out = positive(emulator, 5), emulator.tensor(torch.empty(length))
    squares = emulator.tensor(torch.empty(4 * len(rows.scales), dtype=torch.float64))
    rows.combine(torch.tensor(used), weights, x, squares=squares, out=out)
    products = wide @ x.double()
    combined = x.double() + weights[:used].double() @ wide
    norm = out.double().square().sum()
    return [
        *(eight_bits(row, x) for row, x in zip(wide, given, strict=True)),
        Number(partials[:, :used].double().sum(0), products, CHUNK * products),
        Number(out, combined, (2 * used + 3) * FLOAT * combined),
        Number(squares.sum(), norm, DOUBLE * float(norm)),
    ]


def layer(emulator: Emulator, height: int, width: int, pooling: str | None) -> list[Number]:
    """All that happens to a gradient between two layers, in bfloat16."""
    shape, scale = (1, 8, height, width), 0.25
    f = positive(emulator, *shape, dtype=torch.bfloat16)
    target = positive(emulator, *shape, dtype=torch.bfloat16)
    small = (1, 8, height // 2, width // 2) if pooling else shape
    above = positive(emulator, *small, dtype=torch.bfloat16)
    squares = emulator.tensor(device.square_sums(f, pooling))
    out = emulator.tensor(f.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)
    device.layer_gradient(
        f, above, pooling=pooling, target=target, scale=scale, squares=squares, out=out
    )
    whole = above.double()
    if pooling:
        pool = functional.avg_pool2d if pooling == "average" else functional.max_pool2d
        with torch.enable_grad():
            x = f.double().requires_grad_()
            (whole,) = torch.autograd.grad(pool(x, 2), x, above.double())
    far = f.double() - target.double()
    truth = whole + scale * far
    sizes = whole + scale * (f.double() + target.double())
    norm = far.square().sum()
    return [
        Number(out, truth, BFLOAT16 * truth.abs() + 3 * FLOAT * sizes),
        Number(squares.sum(), norm, 3 * FLOAT * float(norm)),
    ]


def pooled(emulator: Emulator, height: int, width: int, pooling: str) -> list[Number]:
    """A pooling on the way forward, in bfloat16."""
    f = positive(emulator, 1, 8, height, width, dtype=torch.bfloat16)
    out = emulator.tensor(torch.empty(1, height // 2, width // 2, 8, dtype=f.dtype))
    out = out.permute(0, 3, 1, 2)
    device.pool_features(f, pooling, out=out)
    pool = functional.avg_pool2d if pooling == "average" else functional.max_pool2d
    truth = pool(f.double(), 2)
    return [Number(out, truth, (BFLOAT16 + 3 * FLOAT) * truth if pooling == "average" else 0.0)]


def losses(emulator: Emulator, height: int, width: int) -> list[Number]:
    """Sums by block and losses that are known, and their weighted sum."""
    sums = emulator.tensor(torch.rand(height * width, dtype=torch.float64) + 0.1)
    value, found = positive(emulator, 1), emulator.tensor(torch.empty(3))
    terms = [device.LossTerm(sums, 2.0, 5.0), device.LossTerm(value, 3.0, offset=0.5)]
    device.weigh_losses(terms, found)
    parts = torch.stack([sums.sum() / 5, value[0].double() + 0.5])
    total = 2 * found[1].double() + 3 * found[2].double()
    return [Number(found[1:], parts, FLOAT * parts), Number(found[0], total, FLOAT * float(total))]


def picture(emulator: Emulator, height: int, width: int, channels: int) -> list[Number]:
    """The first convolution, both ways, in bfloat16; of 64 channels by tensor cores."""
    weight, bias = torch.rand(channels, 3, 3, 3) + 0.1, torch.rand(channels)
    mean, deviation = torch.zeros(3), torch.rand(3) + 0.5
    filters = device.arrange_image_filters(weight, bias, mean, deviation)
    image = positive(emulator, 1, 3, height, width)
    gradient = positive(emulator, 1, channels, height, width, dtype=torch.bfloat16)
    out = emulator.tensor(torch.empty_like(gradient).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    device.image_features(image, filters, relu=True, out=out)
    back = emulator.tensor(torch.empty(1, 3, height, width))
    device.image_gradient(gradient, filters, out=back)
    x = image.double() / deviation.double()[:, None, None]
    forward = functional.conv2d(x, weight.double(), bias.double(), padding=1)
    over = weight.double() / deviation.double()[None, :, None, None]
    backward = functional.conv_transpose2d(gradient.double(), over, padding=1)
    # 27 sums in a row and the roundings of each factor; 9 for each of the channels, or 2⁻¹⁸ of a
    # filter that is two bfloat16 numbers
    return [
        Number(out, forward, (BFLOAT16 + 32 * FLOAT) * forward),
        Number(back, backward, (9 * channels + 2) * FLOAT * backward),
    ]


def solver(emulator: Emulator, height: int, width: int) -> list[Number]:
    """An iteration of L-BFGS with one curvature pair, each number from those before it."""
    start = 0.5 + torch.rand(1, 3, height, width) / 8
    memory = SolverMemory(start, 3, (0.0, 1.0), 2)
    memory.expect_terms(2)
    steps = KernelSteps(memory)
    first = emulator.tensor(torch.rand(start.numel()) + 0.1)
    steps.take(first, emulator.tensor(torch.tensor([4.0, 3.0])))
    steps.first(scaled=True)
    steps.second()
    s = memory.step.clone()
    image = memory.image.flatten().clone()
    g = emulator.tensor(first + (torch.rand(len(s)) + 0.5) * s)  # s and y point the same way
    steps.take(g, emulator.tensor(torch.tensor([2.0, 1.0])))
    y = memory.change.clone()
    slope, along, square = (
        float(x.double().sum())  # by pairs, as a dot product would not be
        for x in (g.abs(), s.double() * y.double(), y.double().square())
    )
    wanted = torch.tensor([along / square, 1, slope, 2, along, square], dtype=torch.float64)
    kept_s, kept_y = (unpacked(rows, 1)[0] for rows in (steps.s, steps.y))
    found = [
        Number(y, (g - first).double(), 0.0),
        Number(memory.numbers.clone(), wanted, DOUBLE * wanted),
        Number(memory.ring_images[1].flatten().clone(), image.double(), 0.0),
        Number(memory.best.flatten().clone(), image.double(), 0.0),
        eight_bits(kept_s, s),
        eight_bits(kept_y, y),
    ]
    steps.first(scaled=True)
    gamma, products, u = memory.numbers[places.GAMMA], memory.products[0], memory.u[0]
    z = memory.direction.clone()
    truth = gamma * (g.double() - u * kept_y)
    sizes = gamma * (g.double().abs() + (u * kept_y).abs())
    s_g = kept_s @ g.double()
    found += [
        Number(products.clone(), s_g, CHUNK * float(s_g.abs())),
        Number(u.clone(), products / along, DOUBLE * float((products / along).abs())),
        Number(z, truth, 5 * FLOAT * sizes),
    ]
    steps.second()
    t = (along * u - kept_y @ z.double()) / along
    slack = CHUNK * float(kept_y.abs() @ z.double().abs()) / along  # of t
    direction = -(z.double() + t * kept_s)
    sizes = z.double().abs() + (t * kept_s).abs()
    d = memory.direction
    length = float(d.double().norm()) / len(d) ** 0.5
    after = (image.double() + min(1.0, LONGEST_STEP / length) * d.double()).clamp(0, 1)
    return [
        *found,
        Number(d, direction, 5 * FLOAT * sizes + slack * kept_s.abs()),
        Number(memory.image.flatten(), after, 3 * FLOAT * (1 + after.abs())),
        Number(memory.step, memory.image.flatten().double() - image.double(), FLOAT),
        Number(memory.counters, torch.tensor([1, 1, 2]).double(), 0.0),
    ]


WORKS: dict[str, tuple[Work, set[str]]] = {
    "style": (style, {"gram_partials", "gram_reduce", "gram_losses", "gram_gradient"}),
    "difference": (difference, {"symmetrise", "gram_gradient"}),
    "history": (history, {"store_history", "history_products", "history_combination"}),
    "layer": (partial(layer, pooling=None), {"layer_gradient"}),
    "layer, average": (partial(layer, pooling="average"), {"layer_gradient"}),
    "layer, max": (partial(layer, pooling="max"), {"layer_gradient"}),
    "pooling, average": (partial(pooled, pooling="average"), {"pool_features"}),
    "pooling, max": (partial(pooled, pooling="max"), {"pool_features"}),
    "losses": (losses, {"weigh_losses"}),
    "picture": (partial(picture, channels=8), {"image_features", "image_gradient"}),
    "picture, 64 channels": (
        partial(picture, channels=64),
        {"image_features_products", "image_gradient_products"},
    ),
    "solver": (
        solver,
        {
            *("solver_change", "solver_judge", "solver_keep", "solver_first", "solver_second"),
            *("solver_move", "history_products", "history_combination"),
        },
    ),
}


@pytest.fixture(scope="module")
def compiled() -> Emulator:
    return shared_library()


def done(emulator: Emulator, name: str, height: int, width: int) -> list[Tensor]:
    """What a work finds, after it was held to its truth and to the kernels that it is to launch."""
    work, kernels = WORKS[name]
    torch.manual_seed(0)
    emulator.launched()
    with in_place_of_a_gpu(emulator):
        numbers = work(emulator, height, width)
    assert set(emulator.launched()) == kernels
    for index, number in enumerate(numbers):
        off = (number.found.double() - number.truth).abs()
        assert (off <= number.bound).all(), f"{name}, number {index}: {float(off.max())}"
    found = [number.found.clone() for number in numbers]
    emulator.library.emulator_free_all()
    return found


def test_every_kernel_is_in_the_table() -> None:
    named = set().union(*(kernels for _, kernels in WORKS.values()))
    assert named == set(load_tool("gpu_commands").our_kernels())


@pytest.mark.parametrize("name", WORKS)
def test_odd_shapes_in_every_order_of_blocks_and_threads(compiled: Emulator, name: str) -> None:
    first, *others = (done(replace(compiled, mode=mode), name, 37, 61) for mode in MODES)
    for other in others:
        assert all(map(torch.equal, first, other))


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_a_million_positions(compiled: Emulator, name: str) -> None:
    done(compiled, name, 1009, 997)
