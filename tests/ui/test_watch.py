"""What is shown of a run is never larger than a page needs."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from fastnst.run.losses import Losses
from fastnst.run.step import Step
from fastnst.ui import view, watch
from fastnst.ui.watch import Watch
from helpers.pictures import smooth


def shown(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2])))


def test_frames_are_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SHOWN", 40)
    losses = Losses(1.0, {}, {}, 0.0)
    for size, expected in (((30, 40), (30, 40)), ((60, 81), (20, 27))):
        seen = Watch()
        image = torch.full((1, 3, *size), 0.25, device="cpu")
        seen.hear(Step(0, 3, 1, losses, 0.0, image))
        frame = seen.frame()
        assert frame is not None
        assert frame.pixels.shape == (*expected, 3)
        assert np.all(frame.pixels == 0.25)


def test_a_picture_in_the_page_is_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "LONGEST", 50)
    image = Image.fromarray(smooth(80, 61))
    assert shown(view.data_url(image)).size == view.shown_size(80, 61) == (50, 38)
    assert shown(view.data_url(image.resize((50, 20)))).size == (50, 20)
