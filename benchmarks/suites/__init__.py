"""The suites, in the order in which they run."""

from benchmarks.suites import controls, evaluation, loss, memory, ops, optimiser, peers
from benchmarks.suites.base import Case, Suite

SUITES = {
    module.SUITE.name: module.SUITE
    for module in (ops, evaluation, controls, optimiser, loss, memory, peers)
}

__all__ = ["SUITES", "Case", "Suite"]
