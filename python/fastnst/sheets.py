"""Contact sheets as Python asks for them, and what one will take."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnst import files
from fastnst.estimate import Estimate, estimate
from fastnst.images.decode import Picture
from fastnst.images.outputs import check_format, check_output
from fastnst.inputs.pictures import Styles
from fastnst.notebook import with_progress
from fastnst.run.resources import UNLIMITED, Resources
from fastnst.run.step import Step
from fastnst.settings.presets import DEFAULT_PRESET, make_settings
from fastnst.settings.settings import Settings
from fastnst.sheet.axes import make_axes
from fastnst.sheet.cells import Cell, make_cells
from fastnst.sheet.growing import GrowingFile
from fastnst.sheet.sheet import Sheet

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastnst.settings.keywords import SettingsDict

# Settings that change the picture, but not what it takes.
_FREE = ("seed", "learning_rate", "averaging", "style_blend", "content_layer_weights",
         "style_layer_weights", "statistics_weights")  # fmt: skip
_WEIGHTS = ("content_weight", "style_weight", "tv_weight")  # of which 0 alone makes a difference


def contact_sheet(
    content: Picture,
    style: Styles | None,
    vary: Mapping[str, Iterable[Any]],
    *,
    preset: str = DEFAULT_PRESET,
    output: str | os.PathLike[str] | None = None,
    callback: Callable[[int, Step], None] | None = None,
    progress: bool | None = None,
    resources: Resources = UNLIMITED,
    **settings: Unpack[SettingsDict],
) -> Sheet:
    """Make a picture for each combination of values, on one sheet with labels.

        sheet = fastnst.contact_sheet(
            "photo.jpg", None, {"style_weight": (5, 20, 80), "style": ("a.jpg", "b.jpg")}
        )
        sheet.save("sheet.png")

    The cells share decoded pictures, the network and the targets of styles where their settings
    allow it, and start from the same noise unless ``seed`` is varied.

    Args:
        content: As for ``stylize``. It is replaced where ``content`` is varied.
        style: As for ``stylize``. It is replaced where ``style`` is varied, and may be None then.
        vary: One or two of ``{name: values}``: ``content``, ``style``, ``preset`` or a setting. Of
            two the first has its values in rows and the second in columns; one has columns.
        preset: A key of ``fastnst.PRESETS``.
        output: A file that the sheet is written to as it grows: a cell that is done is in it some
            seconds later.
        callback: Called with the number of the cell, from 0, and a ``Step`` after each evaluation;
            an exception ends the sheet.
        progress: As for ``stylize``, for one cell after the other.
        resources: What each run may take of the machine.
        **settings: Attributes of ``fastnst.Settings`` that replace the preset's in every cell.

    Returns:
        The sheet: ``sheet.image``, ``sheet.save(path)``, ``sheet.results[row, column]``. A cell
        that fails, as by a loss that is not finite, is marked and stops no other;
        ``sheet.outcomes`` says why.

    Raises:
        InvalidInput: for a name, a value, a picture or an output that cannot be used, before the
            first cell is made.
        BackendUnavailable: as ``stylize``.
        Interrupted: on Ctrl-C; ``output`` has the cells that are done.
        OutputFailed: if the sheet cannot be written.
    """
    axes = make_axes(vary)

    def make(changes: Mapping[str, Any]) -> Settings:
        own = {name: value for name, value in changes.items() if name != "preset"}
        return make_settings(changes.get("preset", preset), {**settings, **own})

    cells = make_cells(content, style, axes, make)
    target = None if output is None else Path(output)
    if target is not None:
        check_format(target)
        read: dict[str, str | os.PathLike[str]] = {}
        for cell in cells:
            styles = cell.style if isinstance(cell.style, (list, tuple)) else [cell.style]
            for path in (cell.content, *styles, cell.settings.init):
                if isinstance(path, (str, os.PathLike)):
                    read[f"the picture {os.fspath(path)}"] = path
            read[f"the weights {cell.settings.weights}"] = cell.settings.weights
        files.check_outputs({"output": target}, read)
    sheet = Sheet(axes, cells, resources)
    if target is not None:
        check_output(target, size=sheet.size)
    show = with_progress(None, progress)

    def listen(number: int, step: Step) -> None:
        if show is not None:
            show(step)
        if callback is not None:
            callback(number, step)
        if file is not None:
            file.update()

    growing: AbstractContextManager[GrowingFile | None] = (
        nullcontext() if target is None else GrowingFile(sheet, target)
    )
    with growing as file:
        for _ in sheet.paint(listen):
            if file is not None:
                file.update()
    return sheet


def estimate_cells(cells: Sequence[Cell], resources: Resources = UNLIMITED) -> list[Estimate]:
    """What each cell will take; cells that take the same are tried once.

    Args:
        cells: Those of a ``Sheet``, in its order.
        resources: What each run may take of the machine.

    Raises:
        InvalidInput: as ``estimate``, and so are the other errors.
    """
    found: dict[Any, Estimate] = {}
    for cell in cells:
        if _key(cell) not in found:
            found[_key(cell)] = estimate(
                *(cell.content, cell.style, cell.settings), resources=resources
            )
    return [found[_key(cell)] for cell in cells]


def _key(cell: Cell) -> tuple[Any, ...]:
    settings = cell.settings.to_dict()
    for name in _FREE:
        settings.pop(name)
    for name in _WEIGHTS:
        settings[name] = bool(settings[name])
    return id(cell.content), id(cell.style), *map(str, settings.values())
