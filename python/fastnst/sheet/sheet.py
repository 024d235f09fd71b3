"""A contact sheet: every cell is prepared before the first is made, and is shown when it is done.

The cells share decoded pictures, the network with its filters, the targets of styles, and the noise
that they start from, wherever their settings are the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastnst.cache import Cache
from fastnst.engines.create import choose
from fastnst.errors import BackendUnavailable, FastNSTError, InvalidInput
from fastnst.images.encode import encode_8bit, save_rows
from fastnst.images.large import DecodedRows, open_rows
from fastnst.images.pixels import Pixels
from fastnst.images.rows import ImageRows
from fastnst.images.scratch import PictureStore
from fastnst.inputs.pictures import open_styles
from fastnst.inputs.sizes import most_pixels
from fastnst.run.prepare import prepare
from fastnst.run.resources import UNLIMITED, Resources
from fastnst.run.result import Result
from fastnst.run.run import run
from fastnst.run.step import Step
from fastnst.sheet.axes import Axis
from fastnst.sheet.cells import Cell
from fastnst.sheet.layout import Layout


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        cell: The cell.
        result: Its result; None if it failed, and where results are not kept.
        message: Why it failed, in one line; None if it did not.
        record: What ``Result.to_dict`` says of its run; nothing if it failed.
    """

    cell: Cell
    result: Result | None
    message: str | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def made(self) -> bool:
        """Whether there is a picture."""
        return self.message is None

    def to_dict(self) -> dict[str, Any]:
        """The record of the cell: its place, and that of its run."""
        place = {"row": self.cell.row, "column": self.cell.column, "name": self.cell.name}
        return {**place, "message": self.message, **self.record}


class Sheet:
    """A contact sheet, of which ``paint`` makes one cell after the other.

    Args:
        axes: What the rows and the columns differ in, or the columns alone.
        cells: The cells, in the order in which they are made.
        resources: What each run may take of the machine.
        cache: What earlier runs made and these may use again; None: nothing.
        keeps_results: Whether ``outcomes`` keep the results, at 18 bytes a pixel of each cell; if
            not, each is there when ``paint`` yields it, and its record stays.

    Attributes:
        axes: As above.
        cells: As above, with their pictures decoded.
        iterations: How many iterations each cell has.
        outcomes: What became of the cells that are done.
        image: The sheet so far, RGB; cells that are not done are grey.

    Raises:
        InvalidInput: for what ``stylize`` refuses in any of the cells, which it names.
        BackendUnavailable: as ``stylize``.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        cells: Sequence[Cell],
        resources: Resources = UNLIMITED,
        cache: Cache | None = None,
        keeps_results: bool = True,
    ) -> None:
        self.axes = tuple(axes)
        self.outcomes: list[Outcome] = []
        self._resources, self._cache = resources, cache or Cache()
        self._keeps_results = keeps_results
        self.cells = self._decoded(cells)
        self.iterations: list[int] = []
        sizes: dict[tuple[int, int], tuple[int, int]] = {}
        for cell in self.cells:
            try:
                choose(cell.settings)
                prepared = prepare(
                    *(cell.content, cell.style, cell.settings),
                    cache=self._cache,
                    resources=resources,
                )
            except (InvalidInput, BackendUnavailable) as error:
                raise type(error)(f"{cell.name}: {error}") from error
            self.iterations.append(sum(scale.iterations for scale in prepared.schedule))
            sizes[cell.row, cell.column] = prepared.width, prepared.height
        *above, across = self.axes
        rows = above[0].labels if above else ()
        self._layout = Layout(
            [
                [sizes[row, column] for column in range(len(across.labels))]
                for row in range(max(1, len(rows)))
            ],
            rows,
            across.labels,
        )
        self.image = self._layout.blank()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet in pixels."""
        return self._layout.size

    @property
    def pixels(self) -> Pixels:
        """The sheet so far, ``(H, W, 3)`` float32, RGB in [0, 1]."""
        pixels: Pixels = np.asarray(self.image, np.float32) / np.float32(255)
        return pixels

    @property
    def results(self) -> dict[tuple[int, int], Result]:
        """The results by row and column, each from 0, of the cells that are done and kept."""
        return {
            (done.cell.row, done.cell.column): done.result
            for done in self.outcomes
            if done.result is not None
        }

    @property
    def made(self) -> int:
        """How many cells have a picture so far."""
        return sum(outcome.made for outcome in self.outcomes)

    @property
    def seconds(self) -> float:
        """How long the optimisation of these took."""
        return sum(float(done.record["seconds"]) for done in self.outcomes if done.made)

    def paint(self, callback: Callable[[int, Step], None] | None = None) -> Iterator[Outcome]:
        """Make the cells one after the other, and put each on the sheet.

        Args:
            callback: Called with the number of the cell, from 0, and each ``Step`` of its run; an
                exception ends the sheet.

        Yields:
            What became of each cell, when it is on the sheet. One that fails stops no other.

        Raises:
            Interrupted: on Ctrl-C; the cells done until then are on the sheet.
        """
        raised: list[FastNSTError] = []  # by the callback: what it raises is no failure of a cell
        for number, cell in enumerate(self.cells):

            def listen(step: Step, number: int = number) -> None:
                try:
                    if callback is not None:
                        callback(number, step)
                except FastNSTError as error:
                    raised.append(error)
                    raise

            try:
                result = run(
                    *(cell.content, cell.style, cell.settings, listen),
                    cache=self._cache,
                    resources=self._resources,
                )
            except FastNSTError as error:
                if raised:
                    raise raised[0] from None
                outcome = Outcome(cell, None, str(error))
                self._layout.note(self.image, cell.row, cell.column, "failed")
            else:
                outcome = Outcome(cell, result, record=result.to_dict())
                self._layout.paste(self.image, cell.row, cell.column, result.image)
            self.outcomes.append(outcome if self._keeps_results else replace(outcome, result=None))
            yield outcome

    def save(
        self, path: str | os.PathLike[str] | BinaryIO, format: str | None = None
    ) -> Path | None:
        """Write the sheet so far; a PNG carries ``to_dict()`` as JSON in its text entry "fastnst".

        Args:
            path: The file to write, .png, .jpg, .webp, .tiff or .bmp; or a binary file that is open
                for writing.
            format: ``png``, ``jpeg``, ``webp``, ``tiff`` or ``bmp``, which an open file needs.

        Returns:
            The path, or None for an open file.

        Raises:
            InvalidInput: for an unknown format, or one that holds no picture of this size.
            OutputFailed: if the file cannot be written.
        """
        output = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
        record = json.dumps(self.to_dict(output))
        return save_rows(ImageRows(self.image), path, 8, {"fastnst": record}, format)

    def to_dict(self, output: str | None = None) -> dict[str, Any]:
        """The record of the sheet so far: plain values."""
        width, height = self.size
        *above, across = self.axes
        return {
            "output": output,
            "width": width,
            "height": height,
            "rows": list(above[0].labels) if above else [],
            "columns": list(across.labels),
            "cells": [outcome.to_dict() for outcome in self.outcomes],
        }

    def __repr__(self) -> str:
        width, height = self.size
        return f"<Sheet: {width}×{height}, {self.made} of {len(self.cells)} cells>"

    def _repr_png_(self) -> bytes:
        """The sheet as notebooks show it."""
        return encode_8bit(self.image, "PNG")

    def _decoded(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells with every picture opened once: a pipe cannot be read again."""
        store = PictureStore(self._resources.scratch)
        sides = [cell.settings.size or 0 for cell in cells]
        largest = most_pixels(max(sides), self._resources.megapixels)
        contents: dict[int, DecodedRows] = {}  # by the object that cells have in common
        styles: dict[int, tuple[DecodedRows, ...]] = {}
        for cell in cells:
            if id(cell.content) not in contents:
                contents[id(cell.content)] = open_rows(cell.content, store, largest, "content")
            if id(cell.style) not in styles:
                styles[id(cell.style)] = open_styles(cell.style, store, largest)
        return [
            replace(cell, content=contents[id(cell.content)], style=styles[id(cell.style)])
            for cell in cells
        ]
