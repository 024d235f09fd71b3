"""The least time that a GPU could take."""

from __future__ import annotations

import pytest
import torch

from benchmarks import floors
from benchmarks.suites import ops
from fastnst.network.architecture import VGG19
from helpers.benchmarks import CEILINGS


def test_floors_are_those_of_the_tighter_ceiling() -> None:
    flops = 2 * (2 * 361_152 + 17_408 // 2 + 17_408)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        assert floors.evaluation(100, "fp32", CEILINGS) == pytest.approx(100 * flops / 4e9)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        assert floors.evaluation(100, "fp32", CEILINGS) == pytest.approx(100 * flops / 1e9)
    assert floors.evaluation(100, "bf16", CEILINGS) == pytest.approx(100 * flops / 8e9)
    slow = {**CEILINGS, "copy_bytes_per_second": 1e6}
    assert floors.evaluation(100, "bf16", slow) == pytest.approx(100 * 290 * 5 * 2 / 1e6)
    # 7 pairs s, y of 3 values a pixel, a byte each and a scale for 64, read twice
    assert floors.step(100, 7, CEILINGS) == pytest.approx(2 * 7 * 2 * 100 * 3 * (1 + 1 / 16) / 1e9)


def test_the_floors_count_what_the_network_has() -> None:
    """The constants, again from the table of VGG-19's layers."""
    convolutions = features = 0.0
    for name, (channels_in, channels_out) in VGG19.convolutions().items():
        positions = 1 / 4 ** (int(name[4]) - 1)
        convolutions += 9 * channels_in * channels_out * positions
        features += channels_out * positions
        if name == "conv5_1":
            break
    assert convolutions == floors.CONVOLUTIONS
    assert features == floors.FEATURES
    assert sum(c * c / 4**k for k, (c, _) in enumerate(ops.LAYERS.values())) == floors.STYLE


def test_a_run_has_an_evaluation_more_than_steps_and_its_history_grows() -> None:
    one = floors.evaluation(64, "bf16", CEILINGS)
    steps = [floors.step(64, pairs, CEILINGS) for pairs in (0, 1, 2, 2)]
    assert floors.run(64, "bf16", 5, 2, CEILINGS) == pytest.approx(5 * one + sum(steps))
