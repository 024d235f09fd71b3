"""From decoded pictures to the content, styles and start of one scale."""

from __future__ import annotations

import pytest
import torch

from fastnst.errors import InvalidInput
from fastnst.inputs.pictures import decode, scale_pictures
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
