"""Where the time of an evaluation goes on a CPU, beside what its products need at least.

    python tools/evaluation_profile.py [--size 512] [--precision fp32]

Every call of a kernel in an evaluation is timed; the figures are medians of 30. The floor of a
convolution is the time that the products of its Winograd tiles take at the speed of PyTorch's 1×1
convolution (oneDNN) of 512 channels, which is a matrix product and is measured before. The
transforms, the borders of tiles and the memory traffic have no floor.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from fastnst import Settings, load_pictures, load_weights
from fastnst.engines.create import create_engine
from fastnst.engines.planned.cpu import DTYPES
from fastnst.ops import convolution, extension, gram

ROUNDS, WARM_UP = 30, 3
PRODUCTS = {4: 36 / 16, 6: 64 / 36}  # of a tile, for each position, instead of 9
KERNELS = {
    convolution: ("convolve", "convolve_image", "image_gradient", "unpool"),
    gram: ("style_losses_into", "accumulate_style_gradient"),
}
NAMES = {
    "convolve_image": "conv1_1",
    "image_gradient": "conv1_1, gradient",
    "unpool": "gradient of poolings",
    "style_losses_into": "Gram matrices and style losses",
    "accumulate_style_gradient": "their gradient",
}


def ceiling(dtype: torch.dtype) -> float:
    """Operations a second of a matrix product as oneDNN has it.

    ``torch.matmul`` would not do: in float32 it is MKL's, half as fast on processors not by Intel.
    """
    channels, side = 512, 64
    x = torch.randn(1, channels, side, side).to(dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 1, 1).to(dtype)
    times = []
    for _ in range(2 * ROUNDS):
        begin = time.perf_counter()
        torch.conv2d(x, weight)
        times.append(time.perf_counter() - begin)
    return 2 * channels**2 * side**2 / min(times)


def winograd_tile(positions: torch.Tensor, filters: convolution.Filters) -> int:
    sizes = (*positions.shape[:3], filters.channels_in, filters.channels_out)
    return convolution.choose_tile(filters.dtype, sizes)


class Profile:
    """Times the kernels, by name; ``operations`` are those of a convolution's products."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.calls: dict[str, list[float]] = defaultdict(list)
        self.operations: dict[str, float] = {}
        self.count: dict[str, int] = {}

    def watch(self, module: Any, name: str) -> None:
        kernel: Callable[..., None] = getattr(module, name)

        def timed(*arguments: Any, **options: Any) -> None:
            begin = time.perf_counter()
            kernel(*arguments, **options)
            seconds = time.perf_counter() - begin
            key = NAMES.get(name) or self._layer(*arguments, **options)
            self.calls[key].append(seconds)

        setattr(module, name, timed)

    def _layer(self, x: torch.Tensor, filters: convolution.Filters, *_: Any, **options: Any) -> str:
        bits = options.get("x_positive")
        positions = x if bits is None else bits
        height, width = positions.shape[1:3]
        tile = winograd_tile(positions, filters)
        forward = not filters.gradient
        key = f"{filters.channels_in} → {filters.channels_out} at {width} × {height}"
        key += "" if forward else ", gradient"
        pairs = height * width * filters.channels_in * filters.channels_out
        self.operations[key] = 2 * PRODUCTS[tile] * pairs
        return key

    def end_of_round(self) -> None:
        for key, calls in self.calls.items():
            self.seconds[key].append(sum(calls))
        self.count = {key: len(calls) for key, calls in self.calls.items()}
        self.calls.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--precision", choices=("fp32", "int16", "bf16"), default="fp32")
    arguments = parser.parse_args()
    settings = Settings(
        size=arguments.size, init="matched", engine="native", precision=arguments.precision
    )
    pictures = load_pictures("sample:lighthouse", "sample:mosaic", settings, arguments.size)
    weights = load_weights("vgg19-normalised", "auto")
    engine = create_engine(weights, pictures.content, pictures.style, settings)
    # two products of 16-bit integers take the time of one of floats
    integers = arguments.precision == "int16"
    rate = 2 * ceiling(torch.float32) if integers else ceiling(DTYPES[arguments.precision])
    profile = Profile()
    for module, names in KERNELS.items():
        for name in names:
            profile.watch(module, name)
    totals = []
    for _ in range(WARM_UP + ROUNDS):
        begin = time.perf_counter()
        engine.evaluate(pictures.start)
        totals.append(time.perf_counter() - begin)
        profile.end_of_round()
    report(profile, statistics.median(totals[WARM_UP:]), rate, arguments)


def report(profile: Profile, total: float, rate: float, arguments: argparse.Namespace) -> None:
    table = Table("", "calls", "ms", "floor", "share", box=None)
    floors = known = 0.0
    for key, seconds in profile.seconds.items():
        took, calls = statistics.median(seconds[WARM_UP:]), profile.count[key]
        known += took
        row = [key, str(calls), f"{1e3 * took:.1f}"]
        if key in profile.operations:
            floor = calls * profile.operations[key] / rate
            floors += floor
            row += [f"{1e3 * floor:.1f}", f"{100 * floor / took:.0f} %"]
        table.add_row(*row)
    table.add_row("the rest", "", f"{1e3 * (total - known):.1f}")
    table.add_row(
        "all", "", f"{1e3 * total:.1f}", f"{1e3 * floors:.1f}", f"{100 * floors / total:.0f} %"
    )
    console = Console()
    console.print(
        f"{arguments.size} px, {arguments.precision}, {extension.selected_isa()}, "
        f"{torch.get_num_threads()} threads; a matrix product: {rate / 1e9:.0f} GFLOP/s"
    )
    console.print(table)


if __name__ == "__main__":
    main()
