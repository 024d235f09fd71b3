"""From decoded pictures to the content, styles and start of one scale."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastnst.errors import InvalidInput
from fastnst.images.pixels import to_pixels
from fastnst.inputs.pictures import Sources, decode, scale_pictures
from fastnst.settings.settings import Settings
from helpers.pictures import smooth

CONTENT, STYLE, OTHER = smooth(60, 45), smooth(40, 44, seed=1), smooth(33, 21, seed=2)


def test_pictures_unpack_to_content_first_style_and_start() -> None:
    pictures = scale_pictures(decode(CONTENT, [STYLE, OTHER]), Settings(init="content"), 40)
    content, style, start = pictures
    assert content.shape == start.shape == (1, 3, 30, 40)
    assert style is pictures.styles[0]
    assert torch.equal(start, content)
    assert start.data_ptr() != content.data_ptr()


def test_all_of_them_go_to_a_device() -> None:
    mask = smooth(60, 45).copy()
    mask[:] = 255
    mask[:, 30:] = 0
    settings = Settings(color="luminance", init="noise")
    pictures = scale_pictures(decode(CONTENT, [STYLE, OTHER], mask), settings, 40)
    there = pictures.to(torch.device("meta"))
    assert pictures.regions is not None
    assert there.regions is not None
    moved = [*there, *there.styles, there.colours, *(region.content for region in there.regions)]
    assert all(tensor.device.type == "meta" for tensor in moved)
    assert len(there.styles) == len(there.regions) == 2


@pytest.mark.parametrize("name", ["style_blend", "style_scale"])
@pytest.mark.parametrize("init", ["noise", "matched"])
def test_settings_for_another_number_of_styles_are_named(name: str, init: str) -> None:
    sources = decode(CONTENT, [STYLE, OTHER])
    settings = Settings(init=init, **{name: (1.0, 2.0, 3.0)})
    with pytest.raises(InvalidInput, match=f"{name} has 3 values for 2 style pictures"):
        scale_pictures(sources, settings, 40)


def test_the_largest_style_counts_for_the_memory() -> None:
    sources = decode(CONTENT, [STYLE, OTHER])
    assert sources.size(40) == (40, 30)
    assert sources.size(0) == (60, 45)
    assert sources.style_sizes(Settings(), 40) == [(36, 40), (40, 25)]
    assert sources.style_pixels(Settings(), 40) == 36 * 40
    assert sources.style_pixels(Settings(style_size=80, style_scale=(0.5, 1.0)), 40) == 80 * 51


@pytest.mark.parametrize(
    ("content", "style", "settings", "expected"),
    [
        ((300, 100), (50, 50), {}, (300, 300)),  # 3:1: the long side, as ever
        ((100, 300), (80, 50), {}, (300, 188)),
        ((2000, 20), (50, 50), {}, (346, 346)),  # 3 · 2000 · 20 pixels
        ((20, 2000), (60, 20), {}, (600, 200)),
        ((2000, 20), (50, 50), {"style_scale": (2.0,)}, (693, 693)),
        ((2000, 20), (50, 50), {"style_size": 700}, (700, 700)),  # asked for by name
        ((2000, 20), (50, 50), {"style_fit": "content"}, (2000, 20)),
    ],
)
def test_the_style_of_a_very_long_picture_is_no_square_of_its_length(
    content: tuple[int, int], style: tuple[int, int], settings: dict, expected: tuple[int, int]
) -> None:
    blank = [np.zeros((height, width, 3), np.float32) for width, height in (content, style)]
    sources = Sources(blank[0], (blank[1],))
    assert sources.style_sizes(Settings(**settings), 0) == [expected]


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """Content, styles and start alike: what was read is not there a second time."""
    pipes, writers = [], []
    for seed in range(3):
        data = io.BytesIO()
        Image.fromarray(smooth(24, 20, seed)).save(data, "PNG")
        pipe = tmp_path / f"pipe{seed}"
        os.mkfifo(pipe)
        writers.append(threading.Thread(target=pipe.write_bytes, args=(data.getvalue(),)))
        pipes.append(str(pipe))
    for writer in writers:
        writer.daemon = True
        writer.start()
    content, style, init = pipes
    sources = decode(content, style, init=init)
    assert "starting picture" in sources.digests()
    pictures = scale_pictures(sources, Settings(init=init), 24)
    assert np.array_equal((to_pixels(pictures.start) * 255).round(), smooth(24, 20, 2))


def test_styles_come_in_any_iterable() -> None:
    styles = (smooth(24, 20, seed) for seed in range(2))
    assert len(decode(smooth(24, 20), styles).styles) == 2


@pytest.mark.parametrize(
    "nothing", [None, 3, 2.5, True, object(), print, range(0), iter(()), {}, [None]]
)
def test_what_is_no_picture_is_named(nothing: object) -> None:
    with pytest.raises(InvalidInput, match="style") as caught:
        decode(smooth(24, 20), nothing)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "nothing", [None, 3, [], {}, object(), [smooth(24, 20)], b"\xff", "", "a\0b", "/"]
)
def test_what_is_no_content_is_named(nothing: object) -> None:
    with pytest.raises(InvalidInput):
        decode(nothing, smooth(24, 20))
