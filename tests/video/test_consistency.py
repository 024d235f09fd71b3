"""Which pixels can be trusted: the inequalities, on flows where the answer is known."""

from __future__ import annotations

import numpy as np
import torch

from fastnst.samples.moving import MovingScene
from fastnst.video.consistency import consistency, counted_once


def constant(height: int, width: int, right: float, down: float) -> torch.Tensor:
    return torch.tensor([float(right), float(down)]).expand(height, width, 2).clone()


def test_a_pan_is_reliable_but_for_what_comes_in() -> None:
    forward, backward = constant(12, 20, 3, 0), constant(12, 20, -3, 0)
    c = consistency(forward, backward).reliable
    assert c.shape == (1, 1, 12, 20)
    assert c[0, 0, :, 3:].all()
    assert not c[0, 0, :, :3].any()


def test_the_first_inequality() -> None:
    """|w̃ + ŵ|² > 0.01 (|w̃|² + |ŵ|²) + 0.5, on both sides of it."""
    a = 4.0
    for excess, expected in ((-0.02, 1), (0.02, 0)):
        # d² = 0.01 (a² + (a + d)²) + 0.5 for w̃ = a + d and ŵ = −a, solved for d
        d = (0.02 * a + ((0.02 * a) ** 2 + 4 * 0.99 * (0.02 * a**2 + 0.5)) ** 0.5) / (2 * 0.99)
        c = consistency(constant(9, 30, a + d + excess, 0), constant(9, 30, -a, 0)).reliable
        assert float(c[0, 0, 4, 15]) == expected


def test_the_second_inequality() -> None:
    """|∇û|² + |∇v̂|² > 0.01 |ŵ|² + 0.002: a slope of 0.05 is an edge at rest, not in motion."""
    ramp = 0.05 * torch.arange(40.0).expand(8, 40)
    for speed, expected in ((0.0, 0), (3.0, 1)):
        backward = torch.stack((torch.zeros(8, 40), ramp - ramp[0, 20]), dim=-1)
        backward[..., 1] += speed
        c = consistency(-backward, backward).reliable
        assert float(c[0, 0, 3, 20]) == expected


def test_what_a_ball_uncovers_is_not_reliable() -> None:
    ball = (-9.0, 3.0)
    scene = MovingScene(64, 48, ball=ball)
    forward, backward = (torch.from_numpy(scene.flow(*pair)) for pair in ((2, 3), (3, 2)))
    c = consistency(forward, backward).reliable[0, 0].numpy() > 0
    before, now = ((scene.flow(k, k + 1) == ball).all(-1) for k in (2, 3))
    uncovered = before & ~now
    assert uncovered.sum() > 40
    assert c[uncovered].mean() < 0.3  # the flow back is interpolated at the ball's old edge
    assert c[scene.visible(3, 2)].mean() > 0.95


def test_each_pixel_counts_once() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = [(torch.rand(1, 1, 5, 6, generator=generator) > 0.4).float() for _ in range(3)]
    found = counted_once(masks)
    assert torch.equal(found[0], masks[0])
    total = sum(found)
    assert torch.equal(total, torch.stack(masks).amax(0))
    np.testing.assert_array_equal(found[2].numpy(), (masks[2] * (1 - found[0] - found[1])).numpy())
