"""Tables of pictures to make, as spreadsheets save them: CSV with one row a picture.

The delimiter (comma, semicolon, tab or bar) is the one by which the first row has the columns
``content`` and ``style``. The encoding is UTF-8, UTF-16 or, if it is neither, Windows-1252. In the
first row spaces, capitals and empty columns at the end do not count.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastnst import samples
from fastnst.errors import InvalidInput
from fastnst.settings.config import parse_setting, relative_to
from fastnst.settings.kinds import Number, shown
from fastnst.settings.settings import SPECS

LARGEST = 50_000_000  # bytes of a table
_DELIMITERS = (",", ";", "\t", "|")
_NEEDED = ("content", "style")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


@dataclass(frozen=True)
class Row:
    """One picture to make.

    Attributes:
        line: Number of the row's last line in the file, from 1.
        content: A path or ``sample:NAME``.
        styles: The same; several are blended.
        output: The result's name, or None if the row has none.
        changes: The settings for this row alone.
    """

    line: int
    content: str
    styles: tuple[str, ...]
    output: str | None
    changes: Mapping[str, Any]


def read_rows(path: Path) -> list[Row]:
    """The rows of a table; those without anything in them are passed over.

    Several styles in a cell are separated by semicolons. Paths of pictures, ``init`` among them,
    are relative to the table's folder; those of a pipe are taken as they are. A number may have a
    decimal comma.

    Args:
        path: The CSV file. Its columns are ``content``, ``style``, and perhaps ``output`` and
            settings; an empty cell changes nothing.

    Raises:
        InvalidInput: naming the file and, where it is one row's fault, the line.
    """
    text = _decode(path)
    folder = Path() if path.is_fifo() else path.parent  # a pipe, as <(...) is one, has no folder
    columns, lines = _first_row(path, text)
    rows = []
    for line, cells in lines:
        if any(cell.strip() for cell in cells):
            try:
                rows.append(_row(line, columns, cells, folder))
            except InvalidInput as error:
                raise InvalidInput(f"table {path}, line {line}: {error}") from error
    if not rows:
        raise InvalidInput(f"table {path} has no rows below the first, which names the columns")
    return rows


def _decode(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(f"table {path} cannot be read: {reason}") from error
    if len(data) > LARGEST:
        raise InvalidInput(f"table {path} has more than {LARGEST / 1e6:.0f} MB")
    try:
        text = data.decode(_encoding(data))
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"table {path} is in an encoding that cannot be told: save it as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InvalidInput(
            f"table {path}, line {line}: there is a NUL character: save it as CSV, UTF-8"
        )
    return text


def _encoding(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    head = data[:200]
    if len(head) >= 4 and head[1::2].count(0) > len(head) // 4:
        return "utf-16-le"
    if len(head) >= 4 and head[::2].count(0) > len(head) // 4:
        return "utf-16-be"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _first_row(path: Path, text: str) -> tuple[Sequence[str], Sequence[tuple[int, Sequence[str]]]]:
    """The names of the columns, and the numbered rows below."""
    marked = re.match(r"\s*sep=(.)\r?\n", text)  # Excel's way to name the delimiter
    skipped = 1 if marked else 0
    body = text[marked.end() :] if marked else text
    columns: list[str] = []
    for delimiter in (marked[1],) if marked else _DELIMITERS:
        reader = csv.reader(
            io.StringIO(body, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
        )
        try:
            rows = [(reader.line_num + skipped, cells) for cells in reader]
        except csv.Error as error:
            if delimiter == _DELIMITERS[-1] or marked:
                raise InvalidInput(f"table {path} cannot be read: {error}") from error
            continue
        found = _names(rows[0][1]) if rows else []
        if all(name in found for name in _NEEDED):
            twice = next((name for name in found if name and found.count(name) > 1), None)
            if twice is not None:
                raise InvalidInput(f"table {path}: the first row has {twice!r} twice")
            return found, rows[1:]
        columns = max(columns, found, key=lambda names: sum(name in names for name in _NEEDED))
    missing = next(name for name in _NEEDED if name not in columns)
    raise InvalidInput(
        f"table {path}: the first row has no column {missing!r}; it names the columns, as "
        "content,style,output"
    )


def _names(cells: Sequence[str]) -> list[str]:
    names = [re.sub(r"[-\s]+", "_", cell.strip().lower()) for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def _row(line: int, columns: Sequence[str], cells: Sequence[str], beside: Path) -> Row:
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise InvalidInput("there are more cells than columns")
    named = {
        column: cell.strip() for column, cell in zip(columns, cells, strict=False) if cell.strip()
    }
    if "" in named:
        raise InvalidInput(f"{shown(named[''])} is in a column without a name")
    content = _picture(named.pop("content", ""), "content", beside)
    parts = named.pop("style", "").split(";")
    styles = tuple(_picture(part.strip(), "style", beside) for part in parts)
    output = named.pop("output", None)
    changes = {name: parse_setting(name, _number(name, text)) for name, text in named.items()}
    return Row(line, content, styles, output, relative_to(changes, beside))


def _number(name: str, text: str) -> str:
    """The text of a number with a point for its decimal comma; any other text as it is.

    Raises:
        InvalidInput: for one like 1,000, which could be one or a thousand.
    """
    if name not in SPECS or not isinstance(SPECS[name].kind, Number):
        return text
    if _THOUSANDS.fullmatch(text):
        point, plain = text.replace(",", "."), text.replace(",", "")
        raise InvalidInput(f"{name} is {text!r}: write {point} or {plain}")
    return text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text


def _picture(picture: str, column: str, beside: Path) -> str:
    if not picture:
        raise InvalidInput(f"the {column} is empty")
    return picture if picture.startswith(samples.PREFIX) else str(beside / picture)
