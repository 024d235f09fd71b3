"""One measurement: the row of the JSON, and the arithmetic between rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

COLUMNS = (
    "suite",
    "case",
    "implementation",
    "device",
    "dtype",
    "size",
    "seconds",
    "seconds_iqr",
    "runs",
    "reference_seconds",
    "speedup",
    "peak_bytes",
    "error",
)


@dataclass(frozen=True)
class Row:
    """One implementation in one case.

    Attributes:
        suite: ``ops``, ``evaluation``, …
        case: What was measured, in a few words; unique in its suite with dtype and size.
        implementation: What did it; ``reference`` is the textbook loop.
        device: ``cpu`` or ``cuda``.
        dtype: ``fp32``, ``int16`` or ``bf16``.
        size: Long side of the picture in pixels.
        seconds: The median.
        seconds_iqr: Third less first quartile.
        runs: How many times it was measured.
        reference_seconds: The reference's median in the same interleaved run.
        peak_bytes: Peak memory, where it was measured.
        error: Why there is no figure, in one line; None if all went well.
        extra: Further columns of a suite, plain values.
    """

    suite: str
    case: str
    implementation: str
    device: str
    dtype: str
    size: int
    seconds: float | None = None
    seconds_iqr: float | None = None
    runs: int = 0
    reference_seconds: float | None = None
    peak_bytes: int | None = None
    error: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def speedup(self) -> float | None:
        """reference_seconds / seconds: above 1 is faster than the reference."""
        return ratio(self.reference_seconds, self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON has it: ``COLUMNS`` first, then the suite's own."""
        clash = set(COLUMNS) & set(self.extra)
        if clash:
            raise ValueError(f"extra columns {sorted(clash)} have names of the common ones")
        return {name: getattr(self, name) for name in COLUMNS} | dict(self.extra)


def ratio(numerator: float | None, denominator: float | None) -> float | None:
    """Their quotient, or None if either is missing or the quotient is not a finite number."""
    if numerator is None or not denominator:
        return None
    value = numerator / denominator
    return value if math.isfinite(value) else None


def interquartile_range(values: list[float]) -> float:
    """Third less first quartile, interpolated between the values; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    first, _, third = quantiles(values, n=4, method="inclusive")
    return third - first


def summary(values: list[float]) -> dict[str, Any]:
    """``seconds``, ``seconds_iqr`` and ``runs`` of a row."""
    if not values:
        raise ValueError("no measurements")
    return {
        "seconds": median(values),
        "seconds_iqr": interquartile_range(values),
        "runs": len(values),
    }


def one_line(error: BaseException) -> str:
    """An exception as the ``error`` of a row: one line, not too long."""
    text = " ".join(str(error).split())
    if len(text) > 300:
        text = f"{text[:300]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
