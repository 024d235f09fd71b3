"""The suites, in the order in which they run."""

from benchmarks.suite import Case, Suite
from benchmarks.suites import (
    busy,
    causes,
    controls,
    estimates,
    evaluation,
    large,
    loss,
    memory,
    ops,
    optimiser,
    peers,
    precision,
    quality,
    scaling,
    video,
)

SUITES = {
    module.SUITE.name: module.SUITE
    for module in (
        ops,
        evaluation,
        controls,
        optimiser,
        loss,
        precision,
        memory,
        large,
        busy,
        scaling,
        video,
        peers,
        quality,
        causes,
        estimates,
    )
}

__all__ = ["SUITES", "Case", "Suite"]
