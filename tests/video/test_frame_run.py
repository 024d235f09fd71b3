"""The optimisation of one frame: that of a picture, until the frame is as good as its shot."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fastnst.losses import TemporalLoss
from fastnst.run.prepare import prepare
from fastnst.run.run import run
from fastnst.video.film_frame import Shot
from fastnst.video.frame_run import FrameRun, style_loss_of
from helpers.films import pan, settings, texture

pytestmark = pytest.mark.usefixtures("quick")
STYLE = texture(40, 36, seed=7)
FRAME = pan(1)[0]


def test_without_a_film_it_is_the_run_of_a_picture() -> None:
    prepared = prepare(FRAME, STYLE, settings())
    pictures = prepared.pictures(prepared.schedule[-1])
    it = FrameRun(prepared, None)
    it.optimise(pictures, pictures.start, 6)
    result, image = it.finish()
    expected = run(FRAME, STYLE, settings())
    np.testing.assert_array_equal(result.pixels, expected.pixels)
    assert result.history == expected.history
    assert it.temporal is None
    np.testing.assert_array_equal(image[0].permute(1, 2, 0).numpy(), expected.pixels)


@pytest.mark.parametrize("good", ["loss", "style"])
def test_it_ends_when_both_losses_are_within_the_band(good: str) -> None:
    """Where one of the two is out of reach, all iterations are done."""
    prepared = prepare(FRAME, STYLE, settings())
    pictures = prepared.pictures(prepared.schedule[-1])
    for reached in (True, False):
        shot = Shot(0, 1e9, 1e9) if reached else Shot(0, **{"loss": 0.0, "style": 0.0, good: 1e9})
        it = FrameRun(prepared, None)
        it.optimise(pictures, pictures.start, 3, like=(shot, 0.1))
        assert it.finish()[0].iterations == (0 if reached else 3)


def test_the_temporal_term_is_that_of_the_best_picture() -> None:
    prepared = prepare(FRAME, STYLE, settings())
    pictures = prepared.pictures(prepared.schedule[-1])
    target = pictures.content.flip(-1)
    loss = TemporalLoss(target, torch.ones_like(target[:, :1]))
    it = FrameRun(prepared, None)
    it.optimise(pictures, pictures.start, 3, temporal=(1e3, loss))
    _, image = it.finish()
    assert it.temporal == pytest.approx(float(loss(image)), rel=1e-6)  # float32


def test_the_style_loss_of_a_frame_has_the_weights_of_its_layers() -> None:
    its = settings(style_layer_weights=(0.25, 2.0))
    assert style_loss_of({"relu2_1": 3.0, "relu1_1": 8.0}, its) == 0.25 * 8 + 2 * 3


def test_the_temporal_term_does_not_keep_a_frame_from_being_done() -> None:
    prepared = prepare(FRAME, STYLE, settings())
    pictures = prepared.pictures(prepared.schedule[-1])
    alone = FrameRun(prepared, None)
    alone.optimise(pictures, pictures.start, 0)
    shot = Shot(0, alone.finish()[0].losses.total, 1e9)
    loss = TemporalLoss(pictures.content.flip(-1), torch.ones_like(pictures.content[:, :1]))
    weight = 10 * shot.loss / float(loss(pictures.start))
    it = FrameRun(prepared, None)
    it.optimise(pictures, pictures.start, 3, (weight, loss), (shot, 0.1))
    assert it.finish()[0].iterations == 0
