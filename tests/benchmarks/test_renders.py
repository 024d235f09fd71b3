"""Renders that are judged: their starts, their pairs, their medians."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import renders
from benchmarks.options import PAIRS, Options
from benchmarks.renders import Arm, Noise
from benchmarks.rows import Row
from fastnst.inputs.pictures import NOISE_STD, white_noise

SMALL = Options(quick=True, evaluations=2)


def test_noise_is_that_of_the_setting() -> None:
    start = torch.from_numpy(renders.noise(Noise(NOISE_STD), (17, 23), 4)).permute(2, 0, 1)[None]
    own = white_noise(torch.empty(1, 3, 17, 23), 4)
    torch.testing.assert_close(start, own, rtol=0, atol=1e-7)  # one rounding of float32
    grey = renders.noise(Noise(0.05, grey=True), (17, 23), 4)
    assert (grey == grey[..., :1]).all()
    assert grey.std() == pytest.approx(0.05, rel=0.15)  # of 391 values


def test_pairs_are_built_in_or_the_users() -> None:
    assert list(renders.pairs(Options()).values()) == list(PAIRS)
    assert len(PAIRS) == 8
    assert list(renders.pairs(Options(quick=True))) == ["harbour + swirl"]
    assert len(renders.pairs(Options(pairs=3))) == 3
    own = renders.pairs(Options(own_pairs=(("a/x.jpg", "y.png"),), pairs=3))
    assert own == {"x + y": ("a/x.jpg", "y.png")}


def test_an_arm_starts_from_its_noise_and_has_its_scales(photo: Callable[..., Path]) -> None:
    quiet = Arm("quiet", "gatys", {"iterations": 0}, start=Noise(0.001))
    result = renders.render(quiet, str(photo("c.png")), str(photo("s.png", seed=1)), 32, SMALL)
    assert abs(result.pixels - 0.5).max() < 0.01
    hires = Arm("hires", "hires", halved=True)
    halved = renders.render(hires, str(photo("c.png")), str(photo("s.png", seed=1)), 64, SMALL)
    assert [scale.width for scale in halved.scales] == [32, 64]
    assert halved.iterations == 4


def test_medians_are_over_the_pairs_of_an_arm() -> None:
    def row(pair: str, arm: str, value: float, size: int = 32) -> Row:
        extra = dict.fromkeys(renders.COLUMNS, value)
        return Row("quality", pair, arm, "cpu", "fp32", size, 1.0, 0.0, 1, extra=extra)

    rows = [row(str(i), "x", value) for i, value in enumerate((5.0, 1.0, 2.0))]
    failed = Row("quality", "3", "x", "cpu", "fp32", 32, error="none")
    found = list(renders.summarise([*rows, failed, row("0", "y", 7.0), row("0", "x", 9.0, 64)]))
    assert [(one.case, one.implementation) for one in found] == [("median of 3", "x")]
    assert dict(found[0].extra) == dict.fromkeys(renders.COLUMNS, 2.0)


def test_the_painting_itself_is_judged_without_fault() -> None:
    rng = np.random.default_rng(0)
    painting = rng.random((48, 64, 3)).astype(np.float32)
    photograph = rng.random((48, 64, 3)).astype(np.float32)
    own = renders.appearance.power(painting)
    figures = renders.judge(painting, photograph, painting, own)
    assert [figures[f"finest_{c}"] for c in "LUV"] == pytest.approx([1, 1, 1])
    assert figures["style_left"] == 0
    assert figures["clipped"] == figures["clipped_painting"]
