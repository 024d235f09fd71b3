"""From decoded pictures to the content, styles and start of one scale."""

from __future__ import annotations

import io
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastnst.errors import InvalidInput
from fastnst.images import large
from fastnst.images.pixels import to_pixels
from fastnst.images.rows import PixelRows
from fastnst.images.scratch import PictureStore
from fastnst.inputs.pictures import Sources, decode, scale_pictures, with_content
from fastnst.inputs.sizes import most_pixels
from fastnst.settings.settings import Settings
from helpers.pictures import X86_64, smooth

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
    assert sources.styles_held(Settings(), 40) == (36 * 40, 40 * 25)
    both = sources.styles_held(Settings(color="match-covariance"), 40)  # as they were, too
    assert both == (36 * 40, 36 * 40, 40 * 25, 40 * 25)
    scaled = Settings(style_size=80, style_scale=(0.5, 1.0))
    assert sources.styles_held(scaled, 40)[0] == 80 * 51


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
    sources = Sources(PixelRows(blank[0]), (PixelRows(blank[1]),))
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
    assert "starting picture" in sources.digests
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


@pytest.mark.skipif(not X86_64, reason="resampled by rows to a rounding elsewhere")
@pytest.mark.parametrize("color", ["style", "luminance", "match-covariance", "original"])
@pytest.mark.parametrize("init", ["noise", "content", "matched"])
def test_large_pictures_in_a_store_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, color: str, init: str
) -> None:
    """The same bits, though they are made in strips of a few rows and lie in a scratch file."""
    settings = Settings(color=color, init=init, seed=3)
    sources = decode(smooth(96, 72), [smooth(61, 87, seed=1), smooth(50, 40, seed=2)])
    whole = scale_pictures(sources, settings, 61)
    before = scale_pictures(sources, settings, 61, before=whole.start[:, :, ::2, ::2])
    monkeypatch.setattr(large, "WHOLE", 100)
    with PictureStore(tmp_path) as store:
        stored = scale_pictures(sources, settings, 61, store)
        again = scale_pictures(sources, settings, 61, store, whole.start[:, :, ::2, ::2])
        # content, two styles and the start of the two calls at least, 4 bytes a value
        assert store.size > 2 * 4 * (2 * whole.content.numel() + whole.style.numel())
    assert torch.equal(stored.content, whole.content)
    for one, other in zip(stored.styles, whole.styles, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(stored.start, whole.start)
    assert torch.equal(again.start, before.start)
    assert (stored.colours is None) == (whole.colours is None)


@pytest.mark.skipif(not X86_64, reason="resampled by rows to a rounding elsewhere")
def test_a_matched_histogram_in_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(color="match-histogram")
    sources = decode(smooth(96, 72), smooth(61, 87, seed=1))
    whole = scale_pictures(sources, settings, 61)
    assert sources.scratch_bytes(settings, 61) == 0
    monkeypatch.setattr(large, "WHOLE", 100)
    with PictureStore(tmp_path) as store:
        stored = scale_pictures(sources, settings, 61, store)
        # A store begins each tensor at a page: six of these here, of at most 64 KiB.
        assert 0 <= store.size - sources.scratch_bytes(settings, 61) + (1 << 16) < 8 << 16
    assert torch.equal(stored.style, whole.style)


@pytest.mark.skipif(not X86_64, reason="resampled by rows to a rounding elsewhere")
@pytest.mark.skipif(sys.platform != "linux", reason="looks for files that were unlinked")
def test_a_large_file_is_decoded_into_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyvips")
    for name, seed in (("content.png", 0), ("style.png", 1), ("start.png", 2)):
        Image.fromarray(smooth(83, 64, seed)).save(tmp_path / name)
    names = [str(tmp_path / name) for name in ("content.png", "style.png", "start.png")]
    plain = decode(*names[:2], init=names[2])
    monkeypatch.setattr(large, "WHOLE", 100)
    store = PictureStore(tmp_path)
    sources = decode(*names[:2], init=names[2], store=store)
    assert store.size >= 3 * 3 * 83 * 64
    assert sources.digests == plain.digests
    assert sources.size(40) == plain.size(40)
    with PictureStore(tmp_path) as scaled:
        pictures = scale_pictures(sources, Settings(init=names[2]), 40, scaled)
    monkeypatch.undo()
    expected = scale_pictures(plain, Settings(init=names[2]), 40)
    for one, other in zip(pictures, expected, strict=True):
        assert torch.equal(one, other)
    assert sorted(os.listdir(tmp_path)) == ["content.png", "start.png", "style.png"]


def test_a_large_file_that_is_cut_short_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyvips")
    Image.fromarray(smooth(203, 131)).save(tmp_path / "a.jpg", quality=95)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    monkeypatch.setattr(large, "WHOLE", 100)
    with pytest.raises(InvalidInput, match=r"a\.jpg cannot be read: ") as caught:
        decode(tmp_path / "a.jpg", smooth(24, 20), store=PictureStore(tmp_path))
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["a.jpg"]


def test_more_pixels_are_decoded_only_if_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyvips")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    monkeypatch.setattr(large, "LARGEST", 4000)
    monkeypatch.setattr(large, "WHOLE", 100)
    Image.fromarray(smooth(83, 64)).save(tmp_path / "a.png")
    store = PictureStore(tmp_path)
    with pytest.raises(InvalidInput, match="ask for them with --max-megapixels 1, or scale"):
        decode(tmp_path / "a.png", smooth(24, 20), store=store, largest=most_pixels(60))
    for largest in (most_pixels(83), most_pixels(60, 0.0054)):
        sources = decode(tmp_path / "a.png", smooth(24, 20), store=store, largest=largest)
        assert sources.size(0) == (83, 64)
    with pytest.raises(InvalidInput, match="init: .*ask for them with --max-megapixels"):
        decode(smooth(9, 9), smooth(9, 9), init=str(tmp_path / "a.png"), store=store, largest=4000)


def test_the_next_frame_is_seen_as_a_content_picture_is() -> None:
    """Whatever is done to colours, but for the styles, which stay as they are."""
    frame = np.ascontiguousarray(CONTENT[::-1]).astype(np.float32) / 255
    for color in ("style", "original", "luminance", "match-covariance"):
        settings = Settings(color=color, init="content")
        first = scale_pictures(decode(CONTENT, STYLE), settings, 40)
        alone = scale_pictures(decode(frame, STYLE), settings, 40)
        following = with_content(first, frame, settings)
        # luminance in float32, by another order of sums
        torch.testing.assert_close(following.content, alone.content, rtol=0, atol=1e-6)
        assert torch.equal(following.start, following.content)
        assert following.styles is first.styles
        assert (following.colours is None) == (alone.colours is None)
        if following.colours is not None and alone.colours is not None:
            assert torch.equal(following.colours, alone.colours)


def test_the_matched_start_has_the_colours_of_the_styles_in_their_proportions() -> None:
    sources = decode(CONTENT, [STYLE, 255 - STYLE // 4])
    dark, light = (
        scale_pictures(sources, Settings(init="matched", style_blend=blend), 40).start.mean()
        for blend in ((3.0, 1.0), (1.0, 3.0))
    )
    assert float(light - dark) > 0.1


def test_a_style_keeps_its_own_size_if_it_is_asked_to() -> None:
    sources = decode(CONTENT, [STYLE, OTHER])
    assert sources.style_sizes(Settings(style_size=0), 512) == [(40, 44), (33, 21)]
    assert sources.style_sizes(Settings(style_size=0, style_scale=(0.5, 2)), 0) == [
        (20, 22), (66, 42)
    ]  # fmt: skip
