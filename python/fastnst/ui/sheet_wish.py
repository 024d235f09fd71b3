"""A contact sheet that a visitor asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnst.errors import InvalidInput
from fastnst.settings.config import PRESET
from fastnst.settings.presets import COMMON, PRESETS, differences, make_settings, nearest
from fastnst.settings.settings import SPECS, Settings
from fastnst.sheet.axes import Axis, make_axes, read_values
from fastnst.sheet.cells import Cell, make_cells
from fastnst.sheet.sheet import Sheet
from fastnst.ui.limits import Limits, check_names
from fastnst.ui.machine import NETWORK
from fastnst.ui.outcome import sheet_outcome
from fastnst.ui.wish import Ended, Stage, Wish, check_content, copy

if TYPE_CHECKING:
    from typing_extensions import Self

STYLE = "style"  # varied: a picture for each of the styles, which are blended otherwise
# Settings that mean something together: where a visitor changed one, all are the page's.
TOGETHER = (
    ("style_fit", "style_size"),
    ("tv_weight", "tv_form"),
    ("content_layers", "content_layer_weights"),
    ("style_layers", "style_layer_weights"),
    ("statistics", "statistics_weights"),
    NETWORK,
)


@dataclass(frozen=True)
class SheetWish(Wish):
    """A contact sheet that a visitor asks for.

    Attributes:
        content: Path of the content picture.
        styles: As of ``Wish``; they are blended unless ``style`` is varied.
        settings: As of ``Wish``; of every picture but for what is varied.
        vary: One or two of a name, that of a setting, ``style`` or ``preset``, and its values as a
            visitor writes them. Of two the first has its values in rows.
        own: The settings that the page was started with.
        content_mask: None: pictures of a sheet have no masks.
        style_masks: None of them.
    """

    content: str | None
    styles: tuple[str, ...]
    settings: Settings
    vary: tuple[tuple[str, str], ...]
    own: Settings
    content_mask: str | None = None
    style_masks: tuple[str, ...] = ()
    kind = "sheet"

    @property
    def varied(self) -> tuple[tuple[str, str], ...]:
        """As of ``Wish``."""
        return self.vary

    def check(self, limits: Limits) -> None:
        """As of ``Wish``."""
        longest = check_content(self.content, limits)
        if self.content_mask or self.style_masks:
            raise InvalidInput("a sheet has no masks: take them out, or make a single picture")
        style = self.check_pictures(limits)
        cells = self.cells
        if len(cells) > limits.cells:
            raise InvalidInput(
                f"the sheet has {len(cells)} pictures: this page allows {limits.cells}"
            )
        for cell in cells:
            limits.check(cell.settings, longest, style)

    def owned(self, folder: Path) -> Self:
        """As of ``Wish``."""
        assert self.content is not None
        content = copy(self.content, folder / "content picture")
        return replace(self, content=content, **self.copies(folder))

    def state(self, folder: Path) -> Path:
        """As of ``Wish``: there is none, what a sheet that was stopped has is its pictures."""
        return folder / "state"

    def run(self, stage: Stage) -> Ended:
        """As of ``Wish``."""
        sheet = Sheet(self.axes, self.cells, stage.resources, stage.cache, keeps_results=False)
        watch = stage.watch
        watch.unit, watch.frames = "picture", len(sheet.cells)
        state = "done"
        try:
            for done in sheet.paint(lambda _, step: stage.hear(step)):
                if done.result is not None:
                    watch.finish_frame(done.result.pixels, done.result.seconds)
        except KeyboardInterrupt:
            state = "stopped"
        failed = [f"{it.cell.name}: {it.message}" for it in sheet.outcomes if it.message]
        error = "; ".join(failed).replace("--", "") or None
        if not sheet.made:
            return Ended("removed" if state == "stopped" else "failed", error=error)
        return Ended(state, sheet_outcome(sheet, state, error), error)

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """What rows and columns differ in.

        Raises:
            InvalidInput: for a name or a value that is none, or that a visitor may not choose.
        """
        read: dict[str, Sequence[Any]] = {}
        for name, text in self.vary:
            if name in read:
                raise InvalidInput(f"{name} is varied twice")
            read[name] = self.styles if name == STYLE else read_values(name, text)
        return tuple(_numbered(axis) if axis.name == STYLE else axis for axis in make_axes(read))

    @property
    def cells(self) -> list[Cell]:
        """The pictures of the sheet.

        Raises:
            InvalidInput: for settings that do not go together, or that a visitor may not choose.
        """
        axes = self.axes
        if self.content is None:
            raise InvalidInput("choose a content picture first")
        return make_cells(self.content, self.styles, axes, self._settings)

    def _settings(self, changes: Mapping[str, Any]) -> Settings:
        """Those of a picture: the page's, or a preset's with what the page changed, and changes."""
        check_names(changes, self.own)
        own = {name: value for name, value in changes.items() if name != PRESET}
        if PRESET in changes:
            return make_settings(changes[PRESET], {**self._common(), **own})
        return replace(self.settings, **own)

    def _common(self) -> dict[str, Any]:
        """What pictures of several presets have in common.

        That is what no preset has of its own, the size, and all in which the page differs from the
        preset that its settings were changed from.
        """
        changed = set(differences(self.settings, PRESETS[nearest(self.settings)]))
        for names in TOGETHER:
            if changed & set(names):
                changed |= set(names)
        return {
            name: getattr(self.settings, name)
            for name in SPECS
            if name in changed or name in COMMON
        }


def _numbered(axis: Axis) -> Axis:
    """Styles by their number: their files are copies, whose names say nothing to a visitor."""
    return replace(axis, labels=tuple(f"style {k}" for k in range(1, len(axis.values) + 1)))
