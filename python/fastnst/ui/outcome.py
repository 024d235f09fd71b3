"""What the page shows of a run that has ended, made once: a result takes much more memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastnst.images.decode import load_image
from fastnst.images.pixels import resize, to_pil
from fastnst.run.result import Result
from fastnst.ui import view


@dataclass(frozen=True)
class Outcome:
    """What the page shows of a run that has ended. Pictures are addresses that carry them.

    Attributes:
        text: How it ended, in a line.
        picture: HTML with the picture.
        before: The content picture, of the result's size.
        after: The result.
        curves: HTML with the losses.
        download: HTML with the link to the PNG.
        thumbnail: The result, small.
        caption: Of the thumbnail.
    """

    text: str
    picture: str
    before: str
    after: str
    curves: str
    download: str
    thumbnail: str
    caption: str


def outcome(result: Result, state: str, content: Path, error: str | None = None) -> Outcome:
    """What to show of a result.

    Args:
        result: The result.
        state: ``done``, ``stopped`` or ``failed``.
        content: Path of the content picture.
        error: What went wrong, if anything did.
    """
    text = view.summary(result, state)
    if error is not None:
        text = f"{error}; {text}"
    height, width, _ = result.pixels.shape
    before = resize(load_image(content, "content"), *view.shown_size(width, height))
    return Outcome(
        text,
        view.picture(result.pixels, text),
        view.data_url(to_pil(before)),
        view.data_url(result.image),
        view.curves(result.history),
        view.download(result),
        view.thumbnail(result.pixels),
        f"{width}×{height}, {result.iterations} iterations",
    )
