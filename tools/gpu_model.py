"""A model of one iteration on a GPU: what each step moves, computes and launches.

    python tools/gpu_model.py [--size 512] [--history 100] [--precision bf16]

A step takes the longer of its bytes at the memory's rate and its operations at the rate of their
kind, and each launch ``LAUNCH`` seconds at least. The ceilings are given; those of ``H100`` were
measured on such a card with large copies and products, none of the kernels ever was. The launches
are those of a run whose kernels are all in use; a test holds their names to what an iteration
really calls.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

LAUNCH = 2.0e-6  # seconds of a small kernel inside a CUDA graph, from its start to the next
MIB = 2**20

# conv name: channels in, channels out, how often the sides are halved before it
CONVOLUTIONS = (
    ("conv1_1", 3, 64, 0),
    ("conv1_2", 64, 64, 0),
    ("conv2_1", 64, 128, 1),
    ("conv2_2", 128, 128, 1),
    ("conv3_1", 128, 256, 2),
    ("conv3_2", 256, 256, 2),
    ("conv3_3", 256, 256, 2),
    ("conv3_4", 256, 256, 2),
    ("conv4_1", 256, 512, 3),
    ("conv4_2", 512, 512, 3),
    ("conv4_3", 512, 512, 3),
    ("conv4_4", 512, 512, 3),
    ("conv5_1", 512, 512, 4),
)
STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
CONTENT = ("conv4_2",)
POOLED = ("conv1_2", "conv2_2", "conv3_4", "conv4_4")


@dataclass(frozen=True)
class Ceilings:
    """What a card reaches at most.

    Attributes:
        bytes: A second, reading and writing.
        flops: A second, by precision of the factors; ``fp32`` is without tensor cores.
    """

    bytes: float
    flops: dict[str, float]


H100 = Ceilings(3.0e12, {"bf16": 798e12, "tf32": 400e12, "fp32": 60e12})


@dataclass(frozen=True)
class Step:
    """A part of an iteration.

    Attributes:
        name: What it does.
        kernel: The operator or kernel that does it; one launch for each time it is listed.
        bytes: Read and written.
        flops: Operations.
        arithmetic: Their kind, a key of ``Ceilings.flops``.
        launches: How many kernels.
    """

    name: str
    kernel: str
    bytes: float
    flops: float = 0.0
    arithmetic: str = "fp32"
    launches: int = 1

    def seconds(self, ceilings: Ceilings) -> float:
        """How long it takes at least."""
        moved = self.bytes / ceilings.bytes
        return max(moved, self.flops / ceilings.flops[self.arithmetic], self.launches * LAUNCH)


@dataclass(frozen=True)
class Iteration:
    """All steps of an iteration."""

    steps: tuple[Step, ...]

    @property
    def launches(self) -> int:
        return sum(step.launches for step in self.steps)

    @property
    def bytes(self) -> float:
        return sum(step.bytes for step in self.steps)

    def seconds(self, ceilings: Ceilings) -> float:
        """How long it takes at least."""
        return sum(step.seconds(ceilings) for step in self.steps)

    def kernels(self) -> dict[str, int]:
        """How often each kernel or operator is launched."""
        counts: dict[str, int] = {}
        for step in self.steps:
            counts[step.kernel] = counts.get(step.kernel, 0) + step.launches
        return counts


def iteration(size: int = 512, precision: str = "bf16", history: int = 100) -> Iteration:
    """An iteration with the default objective, L-BFGS and every kernel in use.

    Args:
        size: Side of the square picture.
        precision: ``bf16``; or ``fp32``, whose products are TF32.
        history: Curvature pairs in use.
    """
    width = 2 if precision == "bf16" else 4
    arithmetic = "bf16" if precision == "bf16" else "tf32"
    return Iteration(
        (
            *_forward(size, width, arithmetic),
            *_backward(size, width, arithmetic),
            *_solver(3 * size * size, history),
        )
    )


def _positions(size: int, halvings: int) -> int:
    return (size >> halvings) ** 2


def _first(arithmetic: str) -> tuple[str, str]:
    """How the names of the first convolution's kernels end, and the kind of their operations."""
    return ("_products", "bf16") if arithmetic == "bf16" else ("", "fp32")


def _forward(size: int, width: int, arithmetic: str) -> Iterator[Step]:
    picture = 12.0 * size * size
    for name, c_in, c_out, halvings in CONVOLUTIONS:
        n = _positions(size, halvings)
        out, flops = width * c_out * n, 18.0 * c_in * c_out * n
        if name == "conv1_1":
            kernel, rate = _first(arithmetic)
            yield Step(name, f"image_features{kernel}", picture + out, flops, rate)
        else:  # bias and ReLU are in the convolution
            yield Step(name, "convolution", width * c_in * n + out, flops, arithmetic)
        if name in POOLED:
            yield Step(f"pool after {name}", "pool_features", out * 1.25)
    grams = [(c, _positions(size, h)) for name, _, c, h in CONVOLUTIONS if name in STYLE]
    read = sum(width * c * n for c, n in grams)
    flops = sum(2.0 * c * c * n for c, n in grams)
    yield Step("Gram matrices", "gram_partials", read + 2 * 32 * MIB, flops, arithmetic)
    yield Step("their differences", "gram_reduce", 32 * MIB + sum(14.0 * c * c for c, _ in grams))
    yield Step("their losses", "gram_losses", 1e4)


def _backward(size: int, width: int, arithmetic: str) -> Iterator[Step]:
    for name, c_in, c_out, halvings in reversed(CONVOLUTIONS):
        n = _positions(size, halvings)
        f = float(width * c_out * n)
        if name in STYLE:  # features, gradient in and out; ReLU's mask is in it
            first = name == CONVOLUTIONS[-1][0]
            flops = 2.0 * c_out * c_out * n
            yield Step(
                f"style at {name}", "gram_gradient", (2 if first else 3) * f, flops, arithmetic
            )
        elif name in POOLED:
            yield Step(f"unpooling and mask at {name}", "layer_gradient", 2.25 * f)
        elif name in CONTENT:
            yield Step(f"content and mask at {name}", "layer_gradient", 4 * f)
        else:
            yield Step(f"mask at {name}", "layer_gradient", 3 * f)
        flops = 18.0 * c_in * c_out * n
        if name == "conv1_1":
            kernel, rate = _first(arithmetic)
            yield Step(f"gradient of {name}", f"image_gradient{kernel}", f + 12.0 * n, flops, rate)
        else:
            yield Step(
                f"gradient of {name}", "convolution", f + width * c_in * n, flops, arithmetic
            )
    yield Step("no total variation", "fill", 4)
    yield Step("losses and their sum", "weigh_losses", 1e4)


def _solver(n: int, history: int) -> Iterator[Step]:
    rows = history * n * (1 + 4 / 64)  # eight bits, a scale for every 64
    products = 4.0 * history * -(-n // 4096)
    square = 8.0 * history * history
    yield Step("change of the gradient", "solver_change", 20.0 * n)
    yield Step("the verdict", "solver_judge", 1e5)
    yield Step("best, ring buffer, pair", "solver_keep", 24.0 * n + 2 * n * (1 + 4 / 64))
    yield Step("S g", "history_products", rows + 4.0 * n + products, 2.0 * history * n)
    yield Step("u", "solver_first", 3 * square + products)
    yield Step("g − Yᵀu", "history_combination", rows + 8.0 * n, 2.0 * history * n)
    yield Step("Y z", "history_products", rows + 4.0 * n + products, 2.0 * history * n)
    yield Step("t", "solver_second", square + products)
    yield Step("z + Sᵀt", "history_combination", rows + 8.0 * n, 2.0 * history * n)
    yield Step("the step", "solver_move", 20.0 * n)


def before(size: int = 512, precision: str = "bf16", history: int = 100) -> Iteration:
    """The same iteration without the kernels of an iteration, as it was: operators of PyTorch's.

    Its launches were counted on a CPU: 86 of an evaluation, 25 to take it in, 82 of a step and 5
    of the ring buffer.
    """
    width = 2 if precision == "bf16" else 4
    arithmetic = "bf16" if precision == "bf16" else "tf32"
    n = 3 * size * size
    features = sum(width * c * _positions(size, h) for _, _, c, h in CONVOLUTIONS)
    kept = [
        s
        for s in (*_forward(size, width, arithmetic), *_backward(size, width, arithmetic))
        if s.kernel
        in (
            "convolution",
            "gram_partials",
            "gram_reduce",
            "gram_gradient",
            "gram_losses",
            "pool_features",  # avg_pool2d
        )
    ]
    first = 64.0 * size * size
    others = 86 - sum(step.launches for step in kept)
    return Iteration(
        (
            *kept,
            Step(
                "masks, unpooling, casts, losses",
                "elementwise",
                3.0 * features + 4 * 6 * first,
                launches=others,
            ),
            Step("taking an evaluation in", "elementwise", 40.0 * n, launches=25),
            Step(
                "four products with the history",
                "mv",
                16.0 * history * n,
                8.0 * history * n,
                launches=4,
            ),
            Step("the rest of a step", "elementwise", 100.0 * n, launches=78),
            Step("ring buffer", "elementwise", 8.0 * n, launches=5),
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="A model of one iteration on a GPU.")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--history", type=int, default=100)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    chosen = parser.parse_args()
    given = (chosen.size, chosen.precision, chosen.history)
    now = iteration(*given)
    print(f"{'step':<32} {'kernel':<20} {'MB':>8} {'Gflop':>8} {'launches':>8} {'µs':>8}")
    for step in now.steps:
        figures = f"{step.bytes / 1e6:8.1f} {step.flops / 1e9:8.2f} {step.launches:8}"
        print(f"{step.name:<32} {step.kernel:<20} {figures} {1e6 * step.seconds(H100):8.1f}")
    for name, whole in (("before", before(*given)), ("now", now)):
        print(
            f"{name}: {whole.launches} launches, {whole.bytes / 1e6:.0f} MB, "
            f"{1e3 * whole.seconds(H100):.2f} ms at the ceilings"
        )


if __name__ == "__main__":
    main()
