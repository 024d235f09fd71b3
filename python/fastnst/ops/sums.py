"""Sums over the values of a picture, in double: inner product, norms and squared distance.

Float32 sums lose digits with size: torch's |x|₁ of a 64-megapixel gradient is off by 58 %, its x·x
by 2 %. These agree with float64 to its own precision at any size, and depend on the values alone,
not on the number of threads: stretches of fixed length are summed each by one thread, and their
sums are added in order. Float32 on the CPU takes the compiled kernels, everything else PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.ops import extension
from fastnst.ops.extension import call, loaded

# Values that are summed by one thread. torch leaves a reduction of fewer than 32768 to one thread,
# and shares out longer ones by whole rows, so that rows of this length do not depend on threads.
STRETCH = 16384
SLAB = 256 * STRETCH  # values that are converted to float64 at a time: 34 MB
CACHED = 8 * STRETCH  # the same of rows on a CPU: 1 MB, which stays in a processor's cache

ABSOLUTE, DOT, SQUARED_DISTANCE = 0, 1, 2  # sums, as the extension numbers them


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Σ x y.

    Args:
        x: Any shape, a floating-point dtype.
        y: Like x: shape, dtype, device.

    Returns:
        0-dimensional, float64, on the device of x.

    Raises:
        InvalidInput: shapes, dtypes or devices differ, or a dtype is not floating point.
    """
    return _sum(DOT, lambda a, b: a.mul_(b), x, y)


def products(rows: Tensor, x: Tensor) -> Tensor:
    """Σ r x of each row r of a matrix.

    Args:
        rows: ``(m, n)``, one or more, of a floating-point dtype.
        x: ``(n,)``, of that dtype, on that device.

    Returns:
        ``(m,)`` float64, on the device of x: of each row what :func:`dot` finds, to rounding.
    """
    if _is_native(x):
        return torch.stack([dot(row, x) for row in rows])
    size = CACHED if x.device.type == "cpu" else SLAB
    memory = x.new_empty(size, dtype=torch.float64)
    found = x.new_zeros(len(rows), dtype=torch.float64)
    for columns, part in zip(torch.split(rows, size, 1), torch.split(x, size), strict=True):
        length, its = len(part), part.double()
        count = size // max(1, length)  # rows at a time
        for some, sums in zip(torch.split(columns, count), torch.split(found, count), strict=True):
            terms = memory[: len(some) * length].view(len(some), length)
            sums += _of_rows(terms.copy_(some).mul_(its))
    return found


def squared_norm(x: Tensor) -> Tensor:
    """|x|² = Σ x²; arguments and result as for :func:`dot`."""
    return dot(x, x)


def norm1(x: Tensor) -> Tensor:
    """|x|₁ = Σ |x|; arguments and result as for :func:`dot`."""
    return _sum(ABSOLUTE, lambda a, _: a.abs_(), x, None)


def norm2(x: Tensor) -> Tensor:
    """|x|₂ = √Σ x²; arguments and result as for :func:`dot`."""
    return squared_norm(x).sqrt()


def squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """Σ (x − y)², each difference rounded to the dtype of x; as for :func:`dot`."""
    return _sum(SQUARED_DISTANCE, None, x, y)


def _sum(
    what: int, term: Callable[[Tensor, Tensor], Tensor] | None, x: Tensor, y: Tensor | None
) -> Tensor:
    """A sum by the extension where it takes x, else by PyTorch."""
    if not x.is_floating_point():
        raise InvalidInput(f"x: expected floating point, got {x.dtype}")
    if y is not None and (x.shape, x.dtype, x.device) != (y.shape, y.dtype, y.device):
        raise InvalidInput(
            f"y: expected {x.dtype} {tuple(x.shape)} on {x.device}, "
            f"got {y.dtype} {tuple(y.shape)} on {y.device}"
        )
    x, y = x.detach(), None if y is None else y.detach()
    if y is not None and x.stride() != y.stride():
        x, y = x.contiguous(), y.contiguous()
    x, y = _flat(x), None if y is None else _flat(y)
    if _is_native(x):
        second = 0 if y is None else y.data_ptr()
        threads = torch.get_num_threads()
        total = call(loaded().sum, what, x.data_ptr(), second, x.numel(), threads)
        return torch.tensor(total, dtype=torch.float64, device="cpu")
    if y is None:
        y = x
    if term is None:
        x, y = torch.sub(x, y), x
        return _sum_of_terms(lambda a, _: a.square_(), x, x)
    return _sum_of_terms(term, x, y)


def _is_native(x: Tensor) -> bool:
    """Whether the extension takes x."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and extension.is_available()


def _flat(x: Tensor) -> Tensor:
    """The values of x ``(n,)`` in the order of memory where they lie densely, else in that of x.

    Two tensors of equal shape and strides are flattened alike.
    """
    if x.is_contiguous():
        return x.view(-1)
    order = sorted(range(x.ndim), key=x.stride, reverse=True)
    return x.permute(order).reshape(-1).contiguous()


def _sum_of_terms(term: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Σ term(x, y) over x and y ``(n,)`` in float64; ``term`` may overwrite its first."""
    sums = [
        _by_stretch(term(a.to(torch.float64, copy=True), b.to(torch.float64)))
        for a, b in zip(torch.split(x, SLAB), torch.split(y, SLAB), strict=True)
    ]
    found = torch.cat(sums) if sums else x.new_zeros(0, dtype=torch.float64)
    while found.numel() > STRETCH:
        found = _by_stretch(found)
    return found.sum()


def _of_rows(terms: Tensor) -> Tensor:
    """The sum of each row of terms ``(m, n)``: ``(m,)``, by stretches too."""
    count = terms.shape[1] // STRETCH
    whole, rest = terms[:, : count * STRETCH], terms[:, count * STRETCH :]
    return whole.view(len(terms), count, STRETCH).sum(2).sum(1) + rest.sum(1)


def _by_stretch(terms: Tensor) -> Tensor:
    """The sums of every ``STRETCH`` of terms ``(n,)``: ``(⌈n / STRETCH⌉,)``."""
    whole = terms.numel() // STRETCH * STRETCH
    sums = terms[:whole].view(-1, STRETCH).sum(1)
    return sums if whole == terms.numel() else torch.cat([sums, terms[whole:].sum()[None]])
