"""The moving scene: its frames are what its flow says."""

from __future__ import annotations

import numpy as np
import pytest

from fastnst.samples.moving import MovingScene


@pytest.mark.parametrize(
    "scene",
    [
        MovingScene(80, 60, pan=(2.0, 1.0), zoom=1.0, ball=(-3.0, 1.0)),
        MovingScene(81, 61, pan=(1.3, -0.4), zoom=1.02, ball=(2.5, 0.5)),
        MovingScene(80, 60, zoom=0.98, ball=None),
    ],
    ids=["whole pixels", "odd", "no ball"],
)
def test_visible_pixels_are_where_the_flow_says(scene: MovingScene) -> None:
    first, second = scene.frame(2), scene.frame(4)
    flow, seen = scene.flow(2, 4), scene.visible(2, 4)
    rows, columns = np.mgrid[: scene.height, : scene.width]
    at = np.rint(rows + flow[..., 1]).astype(int), np.rint(columns + flow[..., 0]).astype(int)
    inside = (at[0] >= 0) & (at[0] < scene.height) & (at[1] >= 0) & (at[1] < scene.width)
    both = seen & inside
    difference = np.abs(first[both] - second[at[0][both], at[1][both]]).mean()
    moved = np.abs(first - second).mean()
    assert both.mean() > 0.8
    # rounding to whole pixels costs up to half a pixel where the flow is none of whole pixels
    whole = scene.zoom == 1.0
    assert difference < (0.01 if whole else 0.6 * moved)


def test_the_ball_covers_and_uncovers() -> None:
    scene = MovingScene(80, 60)
    hidden = ~scene.visible(1, 3)
    assert 0.02 < hidden.mean() < 0.4
    assert scene.frame(0).shape == (60, 80, 3)
    assert scene.frame(0).dtype == np.float32
    np.testing.assert_array_equal(scene.frame(3), MovingScene(80, 60).frame(3))
