"""Where the cells and the labels of a sheet stand, and how they are drawn.

Columns are as wide as their widest cell and rows as high as their highest, cells stand in the
middle. Labels are written in Pillow's own font, as large as the cells allow.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

SMALLEST, LARGEST = 13, 48  # pixels, the height of letters with what hangs below them
SHARE = 20  # of a cell's long side: one letter's height
WIDEST = 16  # letters' heights that a label takes at most
PAPER, INK, EMPTY = (255, 255, 255), (32, 32, 32), (236, 236, 236)


class Layout:
    """The places on a sheet.

    Args:
        sizes: Width and height of each cell's picture, by row and column.
        rows: The label of each row; nothing where there are none.
        columns: The label of each column.

    Attributes:
        size: Width and height of the sheet in pixels.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[tuple[int, int]]],
        rows: Sequence[str],
        columns: Sequence[str],
    ) -> None:
        longest = max(max(size) for row in sizes for size in row)
        letter = max(SMALLEST, min(LARGEST, longest // SHARE))
        self._font = ImageFont.load_default(letter)
        self._widest = WIDEST * letter
        gap = letter // 2
        beside = 2 * gap + max(map(self._width, rows)) if rows else gap
        widths = [
            max(self._width(label), *(row[j][0] for row in sizes))
            for j, label in enumerate(columns)
        ]
        heights = [max(height for _, height in row) for row in sizes]
        self._lefts, right = _placed(beside, widths, gap)
        self._tops, bottom = _placed(2 * letter, heights, gap)
        self._widths, self._heights = widths, heights
        self._rows, self._columns, self._letter, self._gap = rows, columns, letter, gap
        self.size = right, bottom

    def blank(self) -> Image.Image:
        """The sheet with labels and empty cells, RGB."""
        sheet = Image.new("RGB", self.size, PAPER)
        draw = ImageDraw.Draw(sheet)
        for column, label in enumerate(self._columns):
            centre = self._lefts[column] + self._widths[column] // 2
            self._write(draw, label, centre, self._letter)
        for row, label in enumerate(self._rows):
            middle = self._tops[row] + self._heights[row] // 2
            self._write(draw, label, self._lefts[0] // 2, middle)
        for row in range(len(self._heights)):
            for column in range(len(self._widths)):
                draw.rectangle(self.slot(row, column), fill=EMPTY)
        return sheet

    def slot(self, row: int, column: int) -> tuple[int, int, int, int]:
        """The place of a cell: left, top, and the last column and row of pixels in it."""
        left, top = self._lefts[column], self._tops[row]
        return left, top, left + self._widths[column] - 1, top + self._heights[row] - 1

    def paste(self, sheet: Image.Image, row: int, column: int, picture: Image.Image) -> None:
        """Put a cell's picture in its place, in the middle of it."""
        left, top, right, bottom = self.slot(row, column)
        x = left + (right + 1 - left - picture.width) // 2
        y = top + (bottom + 1 - top - picture.height) // 2
        ImageDraw.Draw(sheet).rectangle((left, top, right, bottom), fill=PAPER)
        sheet.paste(picture, (x, y))

    def note(self, sheet: Image.Image, row: int, column: int, text: str) -> None:
        """Write a word in the place of a cell's picture."""
        left, top, right, bottom = self.slot(row, column)
        self._write(ImageDraw.Draw(sheet), text, (left + right) // 2, (top + bottom) // 2)

    def _width(self, text: str) -> int:
        return math.ceil(self._font.getlength(self._fitted(text)))

    def _fitted(self, text: str) -> str:
        """A text that can be drawn, with no more letters than there is room for."""
        text = "".join(c if c.isprintable() else "?" for c in text)  # bytes that are no text too
        try:
            self._font.getlength(text)
        except UnicodeError:  # a font of bitmaps, without FreeType
            text = text.encode("ascii", "replace").decode()
        if self._font.getlength(text) <= self._widest:
            return text
        lengths = range(len(text))
        most = bisect_right(
            lengths, self._widest, key=lambda n: math.ceil(self._font.getlength(f"{text[:n]}..."))
        )
        return f"{text[: max(0, most - 1)]}..."

    def _write(self, draw: ImageDraw.ImageDraw, text: str, x: int, y: int) -> None:
        """Write a text with its middle at a point."""
        text = self._fitted(text)
        left, top, right, bottom = self._font.getbbox(text)
        draw.text((x - (left + right) / 2, y - (top + bottom) / 2), text, INK, self._font)


def _placed(start: int, lengths: Sequence[int], gap: int) -> tuple[list[int], int]:
    """Where parts begin that follow each other with a gap, and where the last gap ends."""
    begins = []
    for length in lengths:
        begins.append(start)
        start += length + gap
    return begins, start
