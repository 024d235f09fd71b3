"""A film that a visitor asks for."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastnst.errors import BackendUnavailable, FastNSTError
from fastnst.images.decode import load_image
from fastnst.output.encoder import load_av
from fastnst.run.step import Step
from fastnst.settings.settings import Settings
from fastnst.ui.limits import Limits
from fastnst.ui.outcome import Outcome, film_outcome
from fastnst.ui.uploads import open_clip
from fastnst.ui.wish import Ended, Stage, Wish, copy, explain
from fastnst.video import film as films
from fastnst.video import flow
from fastnst.video.options import FilmOptions, Selection
from fastnst.video.painter import Painter
from fastnst.video.tally import Tally

if TYPE_CHECKING:
    from typing_extensions import Self

NAME = "fastnst.mp4"


def unavailable_reason() -> str | None:
    """Why there are no films here, and what to install, or None if there are."""
    try:
        load_av()
        flow.dis_flow()
    except BackendUnavailable:
        return "films need PyAV and OpenCV: pip install av opencv-python-headless"
    return None


@dataclass(frozen=True)
class FilmWish(Wish):
    """A film that a visitor asks for.

    Attributes:
        clip: Path of the clip.
        styles: As of ``Wish``.
        settings: As of ``Wish``.
        content_mask: As of ``Wish``; it holds for every frame.
        style_masks: As of ``Wish``.
        selection: Which frames of the clip are taken.
        options: How the frames hang together.
    """

    clip: str | None
    styles: tuple[str, ...]
    settings: Settings
    content_mask: str | None = None
    style_masks: tuple[str, ...] = ()
    selection: Selection = field(default_factory=Selection)
    options: FilmOptions = field(default_factory=FilmOptions)
    kind = "film"

    @property
    def film(self) -> tuple[Selection, FilmOptions]:
        """As of ``Wish``."""
        return self.selection, self.options

    def check(self, limits: Limits) -> None:
        """As of ``Wish``."""
        reason = unavailable_reason()
        if reason is not None:
            raise BackendUnavailable(reason)
        clip = open_clip(self.clip, limits.megapixels)
        style = self.check_pictures(limits)
        limits.check(self.settings, max(clip.width, clip.height), style)
        limits.check_film(self.selection, self.options, clip.counted())

    def owned(self, folder: Path) -> Self:
        """As of ``Wish``."""
        assert self.clip is not None
        return replace(self, clip=copy(self.clip, folder / "clip"), **self.copies(folder))

    def state(self, folder: Path) -> Path:
        """As of ``Wish``."""
        return folder / f"{NAME}.frames" / "film.json"

    def run(self, stage: Stage) -> Ended:
        """As of ``Wish``."""
        clip = open_clip(self.clip)
        film = films.Film(clip, self._painter(stage), stage.folder / NAME, self.selection)
        watch, made = stage.watch, Tally()
        state, error = "done", None
        try:
            films.check(film, stage.resumed)
            watch.frames = self.selection.count(clip.counted())
            if stage.resumed:
                for record in film.state.records():
                    watch.finish_frame(load_image(film.state.picture(record)))
            for painted in films.make(film, stage.resumed):
                watch.finish_frame(painted.pixels, painted.seconds)
                made.add(painted)
            watch.frames = watch.finished
        except KeyboardInterrupt:
            state = "stopped"
        except FastNSTError as failed:
            if not watch.finished or not film.begun:
                raise
            state, error = "failed", explain(failed, stage.folder, self.state(stage.folder))
        if not watch.finished or not film.begun:
            return Ended(state if film.state.exists else "removed")
        return Ended(state, self._written(film, stage, made, state, error), error)

    def _painter(self, stage: Stage) -> Painter:
        hear: Callable[[Step], None] = stage.hear
        return Painter(
            *(self.styles, self.settings, self.options, flow.dis_flow()),
            content_mask=self.content_mask,
            style_masks=self.style_masks or None,
            listen=lambda _, step: hear(step),
            resources=stage.resources,
        )

    def _written(
        self, film: films.Film, stage: Stage, made: Tally, state: str, error: str | None
    ) -> Outcome:
        """What there is to show, with the film written so far where it stays."""
        last = load_image(film.state.picture(film.state.records()[-1]))
        written = films.write(film)
        assert written is not None
        if error is None and film.clip.loses_sound:
            error = "its sound cannot be read: the film is silent"
        if state == "done":
            films.finish(film)
        stage.kept.mkdir()
        kept = Path(shutil.move(written, stage.kept / NAME))
        return film_outcome(kept, last, stage.watch, made, state, error)
