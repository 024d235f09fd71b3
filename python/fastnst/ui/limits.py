"""What visitors may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastnst.devices import DEFAULT_SIZE
from fastnst.errors import InvalidInput
from fastnst.run.schedule import make_schedule
from fastnst.settings.kinds import NameOrFile, Text
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
        iterations: Of a run, over all its scales.
        frames: Of a film.
        cells: Pictures of a contact sheet.
    """

    megabytes: int = 20
    megapixels: float = 40.0
    size: int = 1024
    iterations: int = 1000
    frames: int = 250
    cells: int = 16

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
        most = self.size
        for name, value, allowed in (
            ("size", size, most),
            ("style_size", settings.style_size or (style if settings.style_size == 0 else 0), most),
            ("style_scale", max(settings.style_scale), LARGEST_STYLE_SCALE),
            ("iterations", settings.iterations, self.iterations),
            ("iterations over all scales", iterations, 2 * self.iterations),
        ):
            if value > allowed:
                raise InvalidInput(f"{name} is {value:g}: this page allows {allowed:g}")

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
