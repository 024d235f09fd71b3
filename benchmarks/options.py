"""What a run of the benchmark was asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

PAIRS = (
    ("sample:harbour", "sample:swirl"),
    ("sample:lighthouse", "sample:mosaic"),
    ("sample:mountains", "sample:poppies"),
    ("sample:lighthouse", "sample:waves"),
    ("sample:harbour", "sample:ink"),
    ("sample:mountains", "sample:swirl"),
    ("sample:lighthouse", "sample:poppies"),
    ("sample:mountains", "sample:waves"),
)


@dataclass(frozen=True)
class Options:
    """The options of ``run.py``.

    Attributes:
        device: ``cpu`` or ``cuda``.
        sizes: Long sides in pixels; empty means each suite's own.
        threads: CPU threads of every contestant.
        quick: Everything small: about two minutes for all suites on two cores.
        pairs: How many of ``PAIRS`` the suites ``loss``, ``quality`` and ``causes`` go over.
        own_pairs: Pairs of a content and a style picture to go over in place of ``PAIRS``.
        seeds: How many seeds of the white noise for each pair.
        evaluations: How many the reference does in the suite ``loss``, and all do in ``precision``,
            ``optimiser`` and ``peers``; in ``quality`` and ``causes`` iterations at most, in
            ``video`` frames. None: each suite's own.
        rounds: Interleaved repeats of a case at most.
        skip: Implementations to leave out: those whose name contains one of these.
        cache: Where the virtual environments of the peers live.
        folder: Where ``quality`` and ``causes`` write their contact sheet; None: nowhere.
    """

    device: str = "cpu"
    sizes: Sequence[int] = ()
    threads: int = field(default_factory=torch.get_num_threads)
    quick: bool = False
    pairs: int | None = None
    own_pairs: Sequence[tuple[str, str]] = ()
    seeds: int = 1
    evaluations: int | None = None
    rounds: int | None = None
    skip: Sequence[str] = ()
    cache: str = ""
    folder: Path | None = None

    def wants(self, implementation: str) -> bool:
        """Whether ``--skip`` leaves this implementation in."""
        return not any(part in implementation for part in self.skip)

    def choose_sizes(self, full: Sequence[int], quick: Sequence[int]) -> Sequence[int]:
        """``--size`` if it was given, otherwise the suite's own."""
        return self.sizes or (quick if self.quick else full)
