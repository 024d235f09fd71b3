"""Cuts: between scenes and nowhere else."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from fastnst.images.pixels import to_tensor
from fastnst.samples.moving import MovingScene
from fastnst.video.consistency import consistency
from fastnst.video.cuts import is_cut
from fastnst.video.flow import Frame, dis_flow
from fastnst.video.warp import warp


def cut_between(before: np.ndarray, after: np.ndarray) -> bool:
    flow = dis_flow()
    first, second = Frame(0, Fraction(0), before), Frame(1, Fraction(1), after)
    backward, forward = flow(second, first), flow(first, second)
    assert backward is not None
    assert forward is not None
    seen = warp(to_tensor(before), backward)
    return is_cut(to_tensor(after), seen, consistency(forward, backward).reliable)


def test_cuts_between_scenes() -> None:
    pytest.importorskip("cv2")
    scenes = [MovingScene(96, 72, picture=p) for p in ("harbour", "lighthouse", "mountains")]
    for one in scenes:
        assert not cut_between(one.frame(0), one.frame(1))
        assert not cut_between(one.frame(0), (one.frame(1) * 1.15).clip(0, 1))  # a flash
        for other in scenes:
            if other is not one:
                assert cut_between(one.frame(0), other.frame(1))


def test_neither_sign_alone_is_a_cut() -> None:
    grey = torch.full((1, 3, 4, 4), 0.5)
    nothing, everything = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    assert is_cut(grey, grey + 0.3, nothing)
    assert not is_cut(grey, grey, nothing)
    assert not is_cut(grey, grey + 0.3, everything)
