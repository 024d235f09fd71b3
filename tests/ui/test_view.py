"""What the page shows of a run, as HTML."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from fastnst.run.result import Losses
from fastnst.ui import view
from fastnst.ui.watch import Frame

NAMES = ("relu1_1", "relu2_1", "relu3_1")


def history(count: int, tv: float = 0.0) -> tuple[Losses, ...]:
    style = {name: 1.0 + k for k, name in enumerate(NAMES)}
    return tuple(
        Losses(100.0 / k, {"relu4_2": 5.0}, {n: v / k for n, v in style.items()}, tv)
        for k in range(1, count + 1)
    )


def svg(count: int, tv: float = 0.0) -> ElementTree.Element:
    return ElementTree.fromstring(view.curves(history(count, tv)))


@pytest.mark.parametrize("count", [1, 2, 7, 150, 1000])
def test_the_curves_show_every_term_within_their_frame(count) -> None:
    drawn = svg(count)
    lines = drawn.findall("polyline")
    assert len(lines) == 5  # the total, one content and three style layers
    texts = [text.text for text in drawn.findall("text")]
    assert {"total", "content relu4_2", *(f"style {name}" for name in NAMES)} <= set(texts)
    assert f"evaluation {count}" in texts
    for line in lines:
        points = [tuple(map(float, p.split(","))) for p in line.get("points", "").split()]
        assert points[0][0] == 45
        assert all(45 <= x <= 440 and 15 <= y <= 255 for x, y in points)
        assert len(points) == count if count <= view.POINTS else len(points) >= view.POINTS


def test_the_last_point_is_at_the_right_edge() -> None:
    points = svg(7).findall("polyline")[0].get("points", "").split()
    assert len(points) == 7
    assert points[-1].startswith("440.0,")


def test_a_term_that_is_zero_is_left_out_and_the_legend_is_within_the_picture() -> None:
    assert len(svg(3).findall("polyline")) == 5
    drawn = svg(3, tv=0.5)
    assert len(drawn.findall("polyline")) == 6
    _, _, width, height = map(float, drawn.get("viewBox", "").split())
    for text in drawn.findall("text"):
        assert float(text.get("x", "")) < width
        assert float(text.get("y", "")) < height


def test_a_caption_has_the_time_left_and_its_markup_is_escaped() -> None:
    pixels = np.zeros((2, 3, 3), np.float32)
    frame = Frame(pixels, 5, 20, 10.0, history(6))
    text = view.caption(frame)
    assert text == "iteration 5 of 20, loss 16.67, 0.5 iterations/s, 30 s left"
    assert "left" in view.caption(Frame(pixels, 0, 20, 0.0, history(1)))  # no rate yet
    image = view.picture(pixels, '"><script>')
    assert "<script>" not in image
    assert re.search(r'src="data:image/webp;base64,[\w+/=]+"', image)
