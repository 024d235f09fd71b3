"""Gradio's components as the page needs them: uploads come undecoded, pictures are sent as data.

They are classes, not objects with a method of their own: whenever an event changes a property of a
component, Gradio goes on with a new object of its class.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import threading
from abc import ABCMeta
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.component_meta import ComponentMeta
from gradio.components.gallery import GalleryData, GalleryImage
from gradio.components.imageslider import SliderData
from gradio.data_classes import FileData, ImageData

from fastnst import samples
from fastnst.ui import thumbnails

_DRAWING = threading.Lock()


class _Plain(ComponentMeta):  # type: ignore[misc, unused-ignore]
    """Makes a class without writing a type stub beside its source, as Gradio's own does."""

    def __new__(cls, name: str, bases: tuple[type, ...], members: dict[str, Any]) -> Any:
        return ABCMeta.__new__(cls, name, bases, members)


class _PictureBox(gr.Image, metaclass=_Plain):  # type: ignore[misc, unused-ignore]
    """Hands on the file as it came: fastnst opens it, within its own limits."""

    is_template = True

    def preprocess(self, payload: Any) -> str | None:
        return None if payload is None else payload.path


class _Strip(gr.Gallery, metaclass=_Plain):  # type: ignore[misc, unused-ignore]
    """Takes ``(address that carries the picture, caption)`` of each picture."""

    is_template = True

    def postprocess(self, value: Any) -> GalleryData:
        pictures: list[Any] = [
            GalleryImage(image=ImageData(path=None, url=url), caption=caption)
            for url, caption in value or ()
        ]
        return GalleryData(root=pictures)


class _BeforeAfter(gr.ImageSlider, metaclass=_Plain):  # type: ignore[misc, unused-ignore]
    """Takes two addresses that carry pictures."""

    is_template = True

    def postprocess(self, value: Any) -> SliderData | None:
        if value is None:
            return None
        before, after = (ImageData(path=None, url=url) for url in value)
        return SliderData(root=(before, after))


class _Player(gr.Video, metaclass=_Plain):  # type: ignore[misc, unused-ignore]
    """Plays a file as it is: Gradio's own looks into it by a program, where that is installed."""

    is_template = True

    def postprocess(self, value: Any) -> FileData | None:
        return None if value is None else FileData(path=str(value), orig_name=Path(value).name)


def clip_box(label: str, name: str) -> Any:
    """A box for one file of any kind; its value is the file's path."""
    return gr.File(label=label, elem_id=name, file_count="single", type="filepath", height=140)


def film_player(label: str, name: str) -> Any:
    """Plays a film, given as the path of an MP4 file."""
    return _Player(label=label, elem_id=name, interactive=False, buttons=[], loop=True)


def picture_box(label: str, name: str) -> Any:
    """A box for one picture, which may be uploaded or pasted; its value is the file's path."""
    return _PictureBox(
        label=label,
        elem_id=name,
        sources=["upload", "clipboard"],
        height=200,
        type="filepath",
        buttons=[],
    )


def strip(
    label: str, name: str, columns: int, pictures: Sequence[tuple[str, str]] | None = None
) -> Any:
    """Pictures to click on, given as ``(address that carries the picture, caption)``."""
    return _Strip(
        pictures,
        label=label,
        elem_id=name,
        columns=columns,
        height="auto",
        interactive=False,
        allow_preview=False,
        object_fit="cover",
        buttons=[],
    )


def before_after(label: str, name: str) -> Any:
    """Two pictures under a slider, given as two addresses that carry them."""
    return _BeforeAfter(label=label, elem_id=name, interactive=False, buttons=[])


def picture_boxes(label: str, name: str) -> Any:
    """A box for several pictures; ``paths`` has their files."""
    return gr.Gallery(
        label=label,
        elem_id=name,
        type="filepath",
        file_types=["image"],
        columns=3,
        height=200,
        interactive=True,
        object_fit="cover",
        allow_preview=False,
        buttons=[],
    )


def paths(several: Any) -> tuple[str, ...]:
    """The files in a box for several pictures."""
    return tuple(str(item[0]) for item in several or () if item[0])


def sample_strip(kind: samples.Kind, label: str) -> Any:
    """The built-in pictures of a kind, to click on."""
    pictures = [(thumbnails.data_url(name), name) for name in samples.names(kind)]
    return strip(label, f"{kind}-samples", 3, pictures)


def sample_at(kind: samples.Kind, index: Any) -> str:
    """The file of a built-in picture by its place in the strip, drawn when it is first chosen."""
    names = samples.names(kind)
    name = names[index] if isinstance(index, int) and 0 <= index < len(names) else names[0]
    if not Path(_drawn(name)).is_file():  # systems tidy their folders for temporary files
        _draw.cache_clear()
    return _drawn(name)


def _drawn(name: str) -> str:
    with _DRAWING:  # visitors click at the same time
        return _draw(name)


@functools.cache
def _draw(name: str) -> str:
    folder = tempfile.mkdtemp(prefix="fastnst-sample-", dir=os.environ.get("GRADIO_TEMP_DIR"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder, f"{name}.png")
    samples.load(name).save(path)
    return str(path)
