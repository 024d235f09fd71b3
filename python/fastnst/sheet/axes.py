"""What a sheet varies: a name and its values, for its rows or its columns.

A name is that of a setting, or ``content``, ``style`` or ``preset``. Values are read and checked
where those of the command line are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastnst import samples
from fastnst.errors import InvalidInput
from fastnst.settings.config import PRESET, parse_setting
from fastnst.settings.kinds import shown
from fastnst.settings.presets import check_name, make_settings
from fastnst.settings.settings import SPECS
from fastnst.settings.spec import typed

PICTURES = ("content", "style")
MOST = 100  # values of one name
AXES = 2  # rows and columns


@dataclass(frozen=True)
class Axis:
    """What the rows or the columns of a sheet differ in.

    Attributes:
        name: ``content``, ``style``, ``preset`` or a setting.
        values: One for each row or column, as it is used.
        labels: What stands beside each.
    """

    name: str
    values: tuple[Any, ...]
    labels: tuple[str, ...]


def read_axes(texts: Sequence[str]) -> tuple[Axis, ...]:
    """The axes that ``--vary NAME=VALUE,VALUE`` asks for.

    Values stand between commas; or between semicolons, where a value has commas itself:
    ``style-layers=relu1_1,relu2_1;relu3_1``.

    Raises:
        InvalidInput: naming what is wrong.
    """
    read: dict[str, list[Any]] = {}
    for text in texts:
        name, values = _read(text)
        if name in read:
            raise InvalidInput(f"--vary: {name} is varied twice")
        read[name] = values
    return make_axes(read)


def make_axes(vary: Mapping[str, Iterable[Any]]) -> tuple[Axis, ...]:
    """The axes of a sheet: rows and columns, or columns alone.

    Args:
        vary: ``{name: values}``, one or two.

    Raises:
        InvalidInput: for none or more than two, a name that is none, and a bad value or list.
    """
    if not isinstance(vary, Mapping):
        raise InvalidInput(f"vary is of type {type(vary).__name__}: expected {{name: values}}")
    if not vary:
        raise InvalidInput("name what to vary, as style-weight=5,20")
    if len(vary) > AXES:
        raise InvalidInput(
            f"{len(vary)} names are varied, {', '.join(vary)}: a sheet has rows and columns, "
            "expected one or two"
        )
    return tuple(_axis(name, values) for name, values in vary.items())


def read_values(name: str, text: str) -> list[Any]:
    """The values of an axis that stand between commas, or between semicolons.

    Args:
        name: ``content``, ``style``, ``preset`` or a setting.
        text: As a user writes it.

    Raises:
        InvalidInput: for a name that is none, and a value that the setting does not take.
    """
    separator = ";" if ";" in text else ","
    parts = [part.strip() for part in text.split(separator) if part.strip()]
    if name in (*PICTURES, PRESET):
        return list(parts)
    return [parse_setting(name, part) for part in parts]


def _read(text: str) -> tuple[str, list[Any]]:
    key, equals, values = text.partition("=")
    name = key.strip().removeprefix("--").replace("-", "_")
    if not equals:
        raise InvalidInput(
            f"--vary is {shown(text)}: expected NAME=VALUE,VALUE, as style-weight=5,20"
        )
    return name, read_values(name, values)


def _axis(name: str, values: Iterable[Any]) -> Axis:
    if not isinstance(name, str) or name not in (*PICTURES, PRESET):
        check_name(name)
    if isinstance(values, (str, bytes, os.PathLike, Mapping)):
        raise InvalidInput(f"{name} is varied over {shown(values)}: expected a list of values")
    if name in PICTURES and not isinstance(values, (list, tuple)):  # an array is one picture
        raise InvalidInput(f"{name} is varied over one picture: expected a list of pictures")
    try:
        found = list(values)
    except TypeError as error:
        raise InvalidInput(
            f"{name} is varied over {shown(values)}: expected a list of values"
        ) from error
    if not 1 <= len(found) <= MOST:
        raise InvalidInput(f"{name} is varied over {len(found)} values: expected 1 to {MOST}")
    if name in SPECS:
        found = [SPECS[name].check(name, value) for value in found]
    elif name == PRESET:
        for value in found:
            make_settings(value)
    return Axis(name, tuple(found), _labels(name, found))


def _labels(name: str, values: Sequence[Any]) -> tuple[str, ...]:
    short = [_short(name, number, value) for number, value in enumerate(values, start=1)]
    if len(set(short)) < len(short):
        short = [_text(name, number, value) for number, value in enumerate(values, start=1)]
    spelled = name.replace("_", " ")
    return tuple(f"{spelled} {text}" for text in short)


def _short(name: str, number: int, value: Any) -> str:
    """A value in a few words: of a file the name, without its folder."""
    is_file = name in PICTURES or (name in SPECS and SPECS[name].kind.names_file(value))
    text = _text(name, number, value)
    return Path(text).stem if is_file and not text.startswith(samples.PREFIX) else text


def _text(name: str, number: int, value: Any) -> str:
    if name in PICTURES:
        path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else str(number)
        return str(path).removeprefix(samples.PREFIX)
    if value is None:
        return str(SPECS[name].none)
    return typed(value)
