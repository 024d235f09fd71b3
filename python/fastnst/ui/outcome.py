"""What the page shows of a run that has ended, made once: a result takes much more memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastnst.images.decode import load_image
from fastnst.images.pixels import Pixels, resize, to_pil
from fastnst.run.result import Result
from fastnst.sheet.sheet import Sheet
from fastnst.ui import view
from fastnst.ui.watch import Watch
from fastnst.video.tally import Tally


@dataclass(frozen=True)
class Outcome:
    """What the page shows of a run that has ended. Pictures are addresses that carry them.

    Attributes:
        text: How it ended, in a line.
        thumbnail: The result, small.
        caption: Of the thumbnail.
        picture: HTML with the picture; empty for a film.
        pair: The content picture, of the result's size, and the result; None for a film.
        download: HTML with the link to the PNG; empty for a film.
        curves: HTML with the losses; empty for a film.
        row: HTML with the last frames of a film; empty for a picture.
        film: The MP4 file; None for a picture.
        size: Bytes of that file.
    """

    text: str
    thumbnail: str
    caption: str
    picture: str = ""
    pair: tuple[str, str] | None = None
    download: str = ""
    curves: str = ""
    row: str = ""
    film: Path | None = None
    size: int = 0

    @property
    def kept(self) -> int:
        """Bytes of all that is kept: of the film's file, and of the texts, which are in memory."""
        texts = (self.text, self.thumbnail, self.caption, self.picture, *(self.pair or ()))
        texts += (self.download, self.curves, self.row)
        return self.size + sum(len(text) for text in texts)  # of which nearly all are ASCII


def picture_outcome(result: Result, state: str, content: Path, error: str | None = None) -> Outcome:
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
        view.thumbnail(result.pixels),
        f"{width}×{height}, {result.iterations} iterations",
        picture=view.picture(result.pixels, text),
        pair=(view.data_url(to_pil(before)), view.data_url(result.image)),
        download=view.download(result),
        curves=view.curves(result.history),
    )


def sheet_outcome(sheet: Sheet, state: str, error: str | None = None) -> Outcome:
    """What to show of a contact sheet.

    Args:
        sheet: The sheet so far.
        state: ``done``, ``stopped`` or ``failed``.
        error: Which of its pictures failed and why, if any did.
    """
    width, height = sheet.size
    counted = view.counted(sheet.made, len(sheet.cells), "picture")
    text = f"{state}: {width}×{height}, {counted} in {sheet.seconds:.1f} s"
    if error is not None:
        text = f"{error}; {text}"
    return Outcome(
        text,
        view.thumbnail(sheet.image),
        f"sheet, {counted}",
        picture=view.picture(sheet.image, text),
        download=view.download(sheet),
    )


def film_outcome(
    film: Path, last: Pixels, watch: Watch, made: Tally, state: str, error: str | None = None
) -> Outcome:
    """What to show of a film.

    Args:
        film: The MP4 file.
        last: The last frame in it.
        watch: What saw the run.
        made: What the run made of it: all of it, or what was left when it went on.
        state: ``done``, ``stopped`` or ``failed``.
        error: What went wrong, if anything did.
    """
    height, width, _ = last.shape
    caption = f"{width}×{height}, {view.counted(watch.finished, watch.frames)}"
    text = f"{state}: {caption}"
    if made.frames:
        text += f", {made.rates}"
    if error is not None:
        text = f"{error}; {text}"
    row = view.film(tuple(watch.film), watch.finished)
    size = film.stat().st_size
    return Outcome(text, view.thumbnail(last), caption, row=row, film=film, size=size)
