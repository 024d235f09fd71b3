"""What a suite is: a list of cases, and how to measure one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import tables
from benchmarks.options import Options
from benchmarks.rows import Row
from benchmarks.tables import RowDict


@dataclass(frozen=True)
class Case:
    """One thing to measure with several implementations side by side.

    Attributes:
        title: The column ``case`` of its rows.
        size: Long side of the picture in pixels.
        dtype: ``fp32`` or ``bf16``, where all implementations share it.
        details: What else the suite needs to know.
    """

    title: str
    size: int
    dtype: str = "fp32"
    details: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Suite:
    """A named family of cases.

    Attributes:
        name: What the command line calls it.
        claim: What its figures say, in one sentence for the report.
        cases: What there is to measure under these options.
        measure: Yields the rows of a case, the baseline's among them.
        baseline: The implementation that the ratios are taken against.
        summarise: Makes further rows from all of the suite's rows, at the end.
        table: Shows the suite's rows in Markdown.
        on_request: Whether it runs only where it is named.
    """

    name: str
    claim: str
    cases: Callable[[Options], Sequence[Case]]
    measure: Callable[[Case, Options], Iterable[Row]]
    baseline: str = "reference"
    summarise: Callable[[Sequence[Row]], Iterable[Row]] | None = None
    table: Callable[[Sequence[RowDict]], str] = tables.plain
    on_request: bool = False
