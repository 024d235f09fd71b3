"""What visitors may ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastnst.devices import DEFAULT_SIZE
from fastnst.errors import InvalidInput
from fastnst.run.schedule import make_schedule
from fastnst.settings.kinds import NameOrFile, Text
from fastnst.settings.presets import PRESETS
from fastnst.settings.settings import SPECS, Settings
from fastnst.video.options import FilmOptions, Selection

MOST_STYLES = 8
LARGEST_STYLE_SCALE = 4.0
CLIP_FRAMES = 20_000  # that are decoded, before the first one that is taken too


@dataclass(frozen=True)
class Limits:
    """What visitors may ask for.

    Attributes:
        megabytes: Of an uploaded file.
        megapixels: Of an uploaded picture.
        size: Long side of a result, in pixels.
        iterations: Of a run at its first scale.
        frames: Of a film.
        cells: Pictures of a contact sheet.
        own: The settings that the page was started with: what they ask for is allowed. None: there
            are none.
    """

    megabytes: int = 20
    megapixels: float = 40.0
    size: int = 1024
    iterations: int = 1000
    frames: int = 250
    cells: int = 16
    own: Settings | None = None

    def check(self, settings: Settings, longest: int, style: int = 0) -> None:
        """Make sure that a run is one that a visitor may ask for.

        Args:
            settings: Of the run.
            longest: Long side of the content picture, which a result of size 0 has.
            style: The longest side of a style picture, which styles of size 0 have.

        Raises:
            InvalidInput: naming the setting and what is allowed.
        """
        size = max(DEFAULT_SIZE.values()) if settings.size is None else settings.size or longest
        iterations = sum(scale.iterations for scale in make_schedule(settings, size, longest))
        of_style = style if settings.style_size == 0 else settings.style_size or 0
        for name, value, allowed in (
            ("size", size, self.size),
            ("style_size", of_style, self._most_style_size),
            ("style_scale", max(settings.style_scale), self._most_style_scale),
            ("iterations", settings.iterations, self.iterations),
            ("iterations over all scales", iterations, self._most_in_all(size, longest)),
        ):
            if value > allowed:
                raise InvalidInput(f"{name} is {value:g}: this page allows {allowed:g}")

    def within(self, settings: Settings) -> Settings:
        """Settings, as those of a preset, with their size and iterations as far as allowed."""
        size = settings.size
        most = max(DEFAULT_SIZE.values()) if size is None else size or math.inf  # 0: the content's
        if most > self.size:
            size = self.size
        later = settings.scale_iterations
        return replace(
            settings,
            size=size,
            iterations=min(settings.iterations, self.iterations),
            scale_iterations=later and tuple(min(count, self.iterations) for count in later),
        )

    @property
    def _most_style_size(self) -> int:
        return max(self.size, self.own.style_size or 0) if self.own else self.size

    @property
    def _most_style_scale(self) -> float:
        return max((LARGEST_STYLE_SCALE, *(self.own.style_scale if self.own else ())))

    def _most_in_all(self, size: int, longest: int) -> int:
        """Iterations over all scales: twice those of a run, or as many as the schedules have.

        Those are the schedules of the presets at this size, with as many iterations at a scale as
        a run may have, and that of the page's first settings as it is.
        """
        presets = [
            sum(min(scale.iterations, self.iterations) for scale in make_schedule(*its))
            for its in ((preset, size, longest) for preset in PRESETS.values())
        ]
        own = make_schedule(self.own, size, longest) if self.own else ()
        return max(2 * self.iterations, *presets, sum(scale.iterations for scale in own))

    def check_film(self, selection: Selection, options: FilmOptions, frames: int) -> None:
        """Make sure that a film is one that a visitor may ask for.

        Args:
            selection: Which frames of the clip are taken.
            options: Of the film.
            frames: How many the clip has.

        Raises:
            InvalidInput: naming what is too much and what is allowed.
        """
        count = selection.count(frames)
        if count < 1:
            raise InvalidInput(f"the clip has {frames} frames, none from {selection.start} on")
        last = frames if selection.end is None else min(frames, selection.end)
        for name, value, most in (
            ("the film has {} frames", count, self.frames),
            ("the film ends with frame {} of the clip", last, CLIP_FRAMES),
            ("frame iterations is {}", options.frame_iterations, self.iterations),
        ):
            if value > most:
                raise InvalidInput(f"{name.format(value)}: this page allows {most}")


def names_of(name: str, own: Settings) -> tuple[str, ...]:
    """The texts that a visitor may choose for a setting; empty where any value of its kind will do.

    A setting that may be the path of a file is one of its names, or what the page was started with:
    the server's files are none of a visitor's business.
    """
    kind = SPECS[name].kind
    if isinstance(kind, (NameOrFile, Text)):
        return tuple(dict.fromkeys((*kind.known, str(getattr(own, name)))))
    return kind.choices if isinstance(getattr(own, name), str) else ()


def check_names(values: Mapping[str, Any], own: Settings) -> None:
    """Make sure that no value is the path of a file on the server.

    Raises:
        InvalidInput: naming the setting and what to choose from; it says the same whether or not
            there is such a file.
    """
    for name, value in values.items():
        names = names_of(name, own) if name in SPECS else ()
        if names and value not in names:
            known = [one for one in names if one in SPECS[name].kind.known]
            raise InvalidInput(f"{name}: on this page choose one of {', '.join(known)}")
