"""What a notebook shows: a result, its plot, a line that follows the run."""

from __future__ import annotations

import io
import types
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import fastnst
from fastnst import notebook

TINY = {
    "size": 32, "iterations": 2, "style_layers": ("relu1_1",), "content_layers": ("relu2_1",)
}  # fmt: skip


@pytest.fixture(scope="module")
def result():
    return fastnst.stylize("sample:harbour", "sample:swirl", **TINY)


def step(iteration: int, iterations: int = 10) -> SimpleNamespace:
    losses = SimpleNamespace(total=12.345)
    return SimpleNamespace(
        iteration=iteration, iterations=iterations, losses=losses, seconds=float(iteration)
    )


def test_a_result_is_its_picture_and_one_short_line(result) -> None:
    with Image.open(io.BytesIO(result._repr_png_())) as shown:
        assert np.array_equal(np.asarray(shown), np.asarray(result.image))
    text = repr(result)
    assert text.startswith("<Result: 32×24, 2 iterations in ")
    assert len(text) < 100
    assert "\n" not in text


def test_a_plot_shows_itself(result) -> None:
    pytest.importorskip("matplotlib")
    with Image.open(io.BytesIO(result.plot()._repr_png_())) as shown:
        assert shown.format == "PNG"
        assert np.asarray(shown.convert("L")).std() > 1


def test_a_result_is_saved_to_a_buffer(result) -> None:
    buffer = io.BytesIO()
    assert result.save(buffer, format="PNG") is None
    with Image.open(buffer) as image:
        assert np.array_equal(np.asarray(image), np.asarray(result.image))
        assert "settings" in image.text["fastnst"]


def test_pictures_unpack() -> None:
    settings = fastnst.Settings(**TINY)
    pictures = fastnst.load_pictures("sample:harbour", "sample:swirl", settings, 32)
    content, style, start = pictures
    assert content is pictures.content
    assert style is pictures.style
    assert start is pictures.start


def test_the_line_changes_a_few_times_a_second_and_at_the_end() -> None:
    now, shown = [0.0], []
    line = notebook.Line(lambda text, last: shown.append((text, last)), lambda: now[0])
    for k in range(11):
        line.update(step(k))
        now[0] += 0.125
    assert [text.split(",")[0] for text, _ in shown] == [
        f"iteration {k} of 10" for k in (0, 2, 4, 6, 8, 10)
    ]  # every second step of 0.125 s, for pauses of 0.2 s
    assert [last for _, last in shown] == [False] * 5 + [True]


def test_progress_is_shown_in_a_notebook_only_unless_asked_for(monkeypatch, capsys) -> None:
    heard = []
    assert not notebook.in_notebook()
    assert notebook.with_progress(heard.append, None) == heard.append
    listen = notebook.with_progress(heard.append, True)
    assert listen is not None
    listen(step(10))
    assert len(heard) == 1
    assert "iteration 10 of 10, loss 12.35" in capsys.readouterr().err

    updates = []
    kernel = types.ModuleType("IPython")
    kernel.get_ipython = lambda: SimpleNamespace(config={"IPKernelApp": {}})
    screen = types.ModuleType("IPython.display")
    handle = SimpleNamespace(update=lambda data, raw: updates.append(data["text/plain"]))
    screen.display = lambda data, raw, display_id: updates.append(data["text/plain"]) or handle
    monkeypatch.setitem(notebook.sys.modules, "IPython", kernel)
    monkeypatch.setitem(notebook.sys.modules, "IPython.display", screen)
    assert notebook.in_notebook()
    assert notebook.with_progress(None, False) is None
    listen = notebook.with_progress(None, None)
    assert listen is not None
    listen(step(0))
    listen(step(10))
    assert [text.split(",")[0] for text in updates] == ["iteration 0 of 10", "iteration 10 of 10"]
    assert capsys.readouterr() == ("", "")
