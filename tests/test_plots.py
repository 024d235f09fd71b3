"""The figure of a run shows what the run did."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import fastnst
from fastnst.errors import BackendUnavailable, InvalidInput
from helpers.pictures import smooth

SMALL = {"size": 48, "iterations": 14, "style_layers": ("relu1_1", "relu2_1"),
         "content_layers": ("relu2_1",)}  # fmt: skip


@pytest.fixture(scope="module")
def result() -> fastnst.Result:
    return fastnst.stylize(smooth(48, 36), smooth(40, 44, seed=1), **SMALL, tv_weight=0.5)


def test_the_parts_add_up_to_the_total(result: fastnst.Result) -> None:
    parts = result.contributions()
    assert set(parts) == {
        "content relu2_1", "style relu1_1", "style relu2_1", "total variation"
    }  # fmt: skip
    sums = np.sum(list(parts.values()), axis=0)
    # the total was summed in float32
    assert sums == pytest.approx([x.total for x in result.history], rel=1e-5)


def test_the_parts_add_up_with_several_styles_and_content_weights() -> None:
    result = fastnst.stylize(
        smooth(48, 36),
        [smooth(40, 44, seed=1), smooth(44, 40, seed=2)],
        **{**SMALL, "content_layers": ("relu1_2", "relu2_1"), "content_layer_weights": (2.0, 0.5)},
    )
    sums = np.sum(list(result.contributions().values()), axis=0)
    assert sums == pytest.approx([x.total for x in result.history], rel=1e-5)


def test_the_figure_has_the_curves_and_the_pictures(result: fastnst.Result) -> None:
    pytest.importorskip("matplotlib")
    figure = result.plot()
    curves, gain, *pictures = figure.get_axes()
    lines = {line.get_label(): line for line in curves.get_lines()}
    assert set(lines) == {"total", *result.contributions()}
    assert list(lines["total"].get_ydata()) == [x.total for x in result.history]
    assert curves.get_yscale() == gain.get_yscale() == "log"
    titles = [axes.get_title() for axes in pictures]
    assert titles[:2] == ["start", "after 7 iterations"]
    assert titles[2].startswith("result")
    shown = [axes.get_images()[0].get_array() for axes in pictures]
    assert np.array_equal(shown[2], np.asarray(result.image))
    start = np.asarray(shown[0])  # white noise around grey
    assert abs(start.mean() - 127.5) < 3
    assert not np.array_equal(shown[0], shown[1])


def test_the_gain_is_what_the_last_evaluations_gained(result: fastnst.Result) -> None:
    pytest.importorskip("matplotlib")
    (line,) = result.plot().get_axes()[1].get_lines()
    totals = [x.total for x in result.history]
    expected = 100 * (1 - min(totals) / min(totals[:5]))  # 15 evaluations, a window of 10
    assert line.get_xdata()[-1] == 15
    assert line.get_ydata()[-1] == pytest.approx(expected)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_it_is_written(tmp_path: Path, result: fastnst.Result, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"plot{suffix}"
    before = "matplotlib.pyplot" in sys.modules
    result.plot(path)
    if suffix == ".png":
        with Image.open(path) as image:
            assert image.width > 1000
    assert path.stat().st_size > 5000
    assert ("matplotlib.pyplot" in sys.modules) == before  # which would choose a window system


def test_a_run_without_iterations_can_be_drawn() -> None:
    pytest.importorskip("matplotlib")
    result = fastnst.stylize(smooth(48, 36), smooth(40, 44), **{**SMALL, "iterations": 0})
    result.plot().canvas.draw()


class Unloadable(ModuleType):
    """matplotlib, where MPLBACKEND names no backend."""

    def __getattr__(self, _: str) -> object:
        message = "Key backend: 'x' is not a valid value for backend; supported values are [...]"
        raise ValueError(message)


def test_what_cannot_be_drawn_is_said(tmp_path: Path, result, monkeypatch) -> None:
    with pytest.raises(InvalidInput, match=r"plot .*a\.jpg: expected a name ending in \.png"):
        result.plot(tmp_path / "a.jpg")
    with pytest.raises(InvalidInput, match="does not exist"):
        result.plot(tmp_path / "no" / "a.png")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", Unloadable("matplotlib.figure"))
        with pytest.raises(BackendUnavailable, match="cannot be loaded: Key backend: 'x' is not"):
            result.plot()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BackendUnavailable, match="pip install matplotlib"):
        result.plot()
