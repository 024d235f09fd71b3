"""What a visitor asks for, and how a run of it ends: the contract of pictures, films and sheets."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastnst.cache import Cache
from fastnst.errors import FastNSTError, InvalidInput
from fastnst.images.decode import open_image
from fastnst.run.resources import Resources
from fastnst.run.step import Step
from fastnst.settings.settings import Settings
from fastnst.ui.limits import MOST_STYLES, Limits
from fastnst.ui.outcome import Outcome
from fastnst.ui.uploads import check_upload
from fastnst.ui.watch import Watch
from fastnst.video.options import FilmOptions, Selection

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Stage:
    """Where a run takes place.

    Attributes:
        folder: The run's own, with copies of what was uploaded; its state is kept in it.
        kept: A folder, not there yet, for files that are shown when the run has ended.
        resumed: Whether the run goes on from its state.
        watch: What sees the run.
        hear: To be called with every step; raises KeyboardInterrupt if the run is to stop.
        cache: What runs share.
        resources: What a run may take of the machine.
    """

    folder: Path
    kept: Path
    resumed: bool
    watch: Watch
    hear: Callable[[Step], None]
    cache: Cache
    resources: Resources


class Ended(NamedTuple):
    """How a run ended.

    Attributes:
        state: ``done``, ``stopped``, ``removed`` (stopped with nothing to go on from) or
            ``failed``.
        outcome: What there is to show of a result; None: nothing.
        error: Why it failed, for the visitor.
    """

    state: str
    outcome: Outcome | None = None
    error: str | None = None


class Wish(ABC):
    """What a visitor asks for.

    Attributes:
        kind: The tab of the page in which it is asked for: ``picture``, ``film`` or ``sheet``.
        styles: Paths of the style pictures.
        settings: Of the run.
        content_mask: Path of the content's mask, or None.
        style_masks: Paths of the styles' masks: none, or one for each style.
    """

    kind: str
    styles: tuple[str, ...]
    settings: Settings
    content_mask: str | None
    style_masks: tuple[str, ...]

    @property
    def film(self) -> tuple[Selection, FilmOptions] | None:
        """Which frames a film has and how they hang together; None: it is none."""
        return None

    @property
    def varied(self) -> tuple[tuple[str, str], ...]:
        """What the pictures of a sheet differ in; nothing: it is none."""
        return ()

    @abstractmethod
    def check(self, limits: Limits) -> None:
        """Make sure that it is what a visitor may ask for.

        Raises:
            InvalidInput: for files or settings that are not allowed.
            BackendUnavailable: for what this machine cannot do.
        """

    @abstractmethod
    def owned(self, folder: Path) -> Self:
        """The same with copies of its files in a folder: uploads are removed after an hour."""

    @abstractmethod
    def state(self, folder: Path) -> Path:
        """A file that is in a run's folder where the run can go on."""

    @abstractmethod
    def run(self, stage: Stage) -> Ended:
        """Do it.

        Raises:
            FastNSTError: if it fails with nothing to show.
        """

    def check_pictures(self, limits: Limits) -> int:
        """Make sure that the styles and the masks are what a visitor may give.

        Returns:
            The longest side of a style picture, in pixels.

        Raises:
            InvalidInput: if not.
        """
        if not self.styles:
            raise InvalidInput("choose a style picture first")
        if len(self.styles) > MOST_STYLES:
            raise InvalidInput(f"there are {len(self.styles)} styles; {MOST_STYLES} are allowed")
        for label, paths in (("style picture", self.styles), ("style mask", self.style_masks)):
            for path in paths:
                check_upload(path, label, limits.megapixels)
        if self.content_mask:
            check_upload(self.content_mask, "content mask", limits.megapixels)
        self.settings.blend(len(self.styles))
        return max(_longest(path) for path in self.styles)

    def copies(self, folder: Path) -> dict[str, Any]:
        """Copies of the styles and the masks, by the names of these fields."""
        mask = self.content_mask
        return {
            "styles": _copy_all(self.styles, folder, "style picture"),
            "content_mask": copy(mask, folder / "content mask") if mask else None,
            "style_masks": _copy_all(self.style_masks, folder, "style mask"),
        }


def check_content(path: str | None, limits: Limits) -> int:
    """Make sure that a content picture is what a visitor may give; its long side in pixels.

    Raises:
        InvalidInput: if it is not, or there is none.
    """
    return _longest(check_upload(path, "content picture", limits.megapixels))


def _longest(path: str) -> int:
    with open_image(Path(path)) as image:
        return max(image.width, image.height)


def copy(path: str, target: Path) -> str:
    """The path of a copy of a file.

    Raises:
        InvalidInput: if it cannot be made: the upload is gone, or the disk full.
    """
    try:
        return str(shutil.copyfile(path, target))
    except OSError as error:
        raise InvalidInput(
            f"the {target.name} cannot be kept: {error.strerror}; choose it again"
        ) from error


def explain(error: Exception, folder: Path, state: Path) -> str:
    """What went wrong, in one line for a visitor, who need not know the server's paths.

    Args:
        error: What was raised.
        folder: The run's own.
        state: Where its state is.
    """
    if not isinstance(error, FastNSTError):
        return "the run failed on the server; its log says why"
    text = str(error).replace(f"checkpoint {state}", "the stopped run")
    text = text.replace(f"{folder}/", "the ").replace(str(folder), "the server's folder")
    return text.replace("--", "")  # the page's controls have the names of the options


def _copy_all(paths: tuple[str, ...], folder: Path, label: str) -> tuple[str, ...]:
    return tuple(copy(path, folder / f"{label} {k}") for k, path in enumerate(paths, 1))
