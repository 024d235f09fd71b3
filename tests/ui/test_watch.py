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


def test_the_last_finished_frames_of_a_film_are_kept_small() -> None:
    seen = Watch()
    for k in range(watch.FILM + 3):
        seen.finish_frame(np.full((120, 240, 3), k / 100, np.float32))
    assert seen.finished == watch.FILM + 3
    assert [round(float(frame.max()) * 100) for frame in seen.film] == list(range(3, 27))
    assert {frame.shape for frame in seen.film} == {(80, 160, 3)}
    little = Watch()
    little.finish_frame(np.zeros((7, 5, 3), np.float32))
    assert little.film[0].shape == (7, 5, 3)


def test_the_preview_shows_the_frames_of_a_film_as_they_are_finished() -> None:
    pytest.importorskip("gradio")
    from fastnst.ui.preview_page import preview_page

    seen = Watch()
    functions = preview_page(seen).fns.values()
    look = next(each.fn for each in functions if each.api_name == "look")
    *_, row, known = look(0)
    assert isinstance(row, dict)  # nothing to show yet: the page stays as it is
    for number in (1, 2):
        seen.hear(Step(1, 3, 2, Losses(1.0, {}, {}, 0.0), 0.5, torch.zeros(1, 3, 6, 8)))
        seen.finish_frame(np.full((6, 8, 3), 0.5, np.float32))
        _, status, *_, row, known = look(known)
        assert known == number
        assert status.startswith(f"{number} frame")
        assert row.count("<img") == number
        assert f'alt="finished frame {number}"' in row
    *_, row, _ = look(known)
    assert isinstance(row, dict)


def test_the_pace_is_that_of_the_frames_after_the_first() -> None:
    seen, pixels = Watch(), np.zeros((6, 8, 3), np.float32)
    seen.finish_frame(pixels)  # it was there already
    assert seen.pace is None
    for seconds, pace in ((10.0, 10.0), (2.0, 2.0), (4.0, 3.0)):
        seen.finish_frame(pixels, seconds)
        assert seen.pace == pace


def test_the_losses_of_each_frame_of_a_film_begin_anew() -> None:
    seen = Watch()
    for iteration in (0, 1, 2, 0, 1):
        losses = Losses(float(iteration), {}, {}, 0.0)
        seen.hear(Step(iteration, 3, 2, losses, 0.5, torch.zeros(1, 3, 6, 8)))
        frame = seen.frame()
    assert frame is not None
    assert [losses.total for losses in frame.history] == [0.0, 1.0]
