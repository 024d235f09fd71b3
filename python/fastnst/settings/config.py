"""Settings in a TOML file: to be read, and written so that a run can be repeated.

A file has the settings by their names (``style_weight = 20``; ``style-weight`` will do), a list
where a setting is a list, and may have ``preset``, which the settings then change. A picture that
fastnst wrote as a PNG, of the end of a run or on the way, carries the run's settings and can be
read in place of a file; a contact sheet has several runs' and cannot.

A relative path in a TOML file (``init``, ``weights``) is looked for in the file's folder first,
then in the working directory.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastnst import files
from fastnst._version import __version__
from fastnst.errors import InvalidInput
from fastnst.settings.kinds import shown
from fastnst.settings.presets import DEFAULT_PRESET, FIRST_PRESET, check_name, make_settings
from fastnst.settings.settings import SPECS, Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESET = "preset"
LONGEST_NUMBER = 4000  # digits; Python reads whole numbers of up to 4300
_LONG_NUMBER = re.compile(
    rf"^\s*[\"']?([\w-]+)[\"']?\s*=[^\n\"'#]*?\d{{{LONGEST_NUMBER}}}", re.MULTILINE
)
LARGEST = 1_000_000  # bytes of a TOML file; one with every setting has 2000
_CELLS = "cells"  # what the record of a contact sheet has in the place of settings


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a file, and ``preset`` where it has one.

    Args:
        path: A TOML file, or a PNG of one run that fastnst wrote.

    Raises:
        InvalidInput: naming the file and what is wrong in it: a name that is no setting, a value
            that a setting cannot have, or no settings at all.
    """
    try:
        if not (path.is_file() or path.is_fifo()):
            raise InvalidInput(f"config {path} does not exist or is not a file")
        data = _read(path)
        if data is None and path.is_fifo():
            raise InvalidInput(f"config {path} is a picture in a pipe: name its file")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"config {path} cannot be read: {_reason(error)}") from error
    is_picture = data is None
    raw = _from_picture(path) if data is None else _from_toml(path, data)
    try:
        values = _named(raw)
        preset = values.get(PRESET, DEFAULT_PRESET)
        if not isinstance(preset, str):
            raise InvalidInput(f"preset is {shown(preset)}: expected a text in quotes")
        if not is_picture:
            values = relative_to(values, path.parent)
        make_settings(preset, {k: v for k, v in values.items() if k != PRESET})
    except InvalidInput as error:
        raise InvalidInput(f"config {path}: {error}") from error
    return values


def combine(
    config: Mapping[str, Any],
    preset: str | None,
    options: Mapping[str, Any],
    default: str = FIRST_PRESET,
) -> Settings:
    """The settings of a run: the preset's, changed by the config, changed by the options.

    Args:
        config: What ``read_config`` returns, or nothing.
        preset: The preset's name; None: the one that the config names, or the default.
        options: ``{setting: value}``.
        default: The preset where neither names one.

    Raises:
        InvalidInput: for values that do not go together.
    """
    settings = {name: value for name, value in config.items() if name != PRESET}
    if preset is not None and all(name in settings for name in SPECS if not _may_be_none(name)):
        raise InvalidInput(
            f"the config names every setting, and preset {preset} could change those alone that "
            "it leaves out: name one of them"
        )
    chosen = config.get(PRESET, default) if preset is None else preset
    return make_settings(chosen, {**settings, **options})


def write_config(path: Path, settings: Settings) -> None:
    """Write every setting to a TOML file; ``read_config`` gives the same settings.

    A setting that is None is left out: TOML has no such value. The file names the preset in which
    all that may be None is. The path of a picture or of weights that exists is written relative to
    the file where it lies in its folder, otherwise in full, so that the file can be read from any
    working directory.

    Raises:
        InvalidInput: if the file's folder is missing or not writable, or a name in the settings
            cannot be written as text.
        OutputFailed: if it cannot be written.
    """
    import tomli_w

    files.check_writable(path, "config")
    values = {name: value for name, value in settings.to_dict().items() if value is not None}
    values = {name: _portable(name, value, path.parent) for name, value in values.items()}
    values = {PRESET: DEFAULT_PRESET, **values}
    text = f"# settings of a run of fastnst {__version__}\n{tomli_w.dumps(values)}"
    try:
        data = text.encode()
    except UnicodeEncodeError as error:  # a file name that is no text
        raise InvalidInput(
            f"config {path}: a file's name has bytes that are no text: "
            f"{shown(text[error.start - 20 : error.end + 20])}"
        ) from error
    files.write(path, data)


def parse_setting(name: str, text: str) -> Any:
    """The value of a setting from its text: a number, or for a list its parts between commas.

    Raises:
        InvalidInput: for a name that is no setting, or a text that is no value of it.
    """
    check_name(name)
    return SPECS[name].check(name, SPECS[name].kind.parse(name, text))


def relative_to(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The values, with relative paths (``init``, ``weights``) of files in a folder found there.

    A name that is built in stays, and so does a path that leads to nothing from the folder.
    """
    found = dict(values)
    for name, value in values.items():
        if name in SPECS and isinstance(value, str) and SPECS[name].kind.names_file(value):
            beside = str(folder / value)
            if os.path.isfile(beside):  # noqa: PTH113 - False for a name that no system takes
                found[name] = beside
    return found


def _may_be_none(name: str) -> bool:
    return SPECS[name].none is not None


def _portable(name: str, value: Any, folder: Path) -> Any:
    if not SPECS[name].kind.names_file(value) or not os.path.isfile(value):  # noqa: PTH113
        return value
    full, root = Path(value).resolve(), folder.resolve()
    return str(full.relative_to(root)) if full.is_relative_to(root) else str(full)


def _named(raw: Mapping[Any, Any]) -> dict[str, Any]:
    """The values by the settings' names, in whichever of two spellings they are given."""
    values: dict[str, Any] = {}
    for key, value in raw.items():
        name = str(key).replace("-", "_")
        if name in values:
            raise InvalidInput(f"{name} is there twice, as {name} and {name.replace('_', '-')}")
        values[name] = value
    return values


def _read(path: Path) -> bytes | None:
    """The bytes of a file; None if it is a PNG, by its first bytes or its name."""
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if path.suffix.lower() == ".png" or data.startswith(b"\x89PNG"):
        return None
    if len(data) > LARGEST:
        raise InvalidInput(f"config {path} is larger than a file of settings can be")
    return data


def _from_toml(path: Path, data: bytes) -> dict[str, Any]:
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = None
    try:
        text = data.decode("utf-16" if marked else "utf-8-sig").replace("\r\n", "\n")
        return dict(tomllib.loads(text))
    except (ValueError, RecursionError) as error:
        long = _LONG_NUMBER.search(text) if isinstance(text, str) else None
        if long is not None:
            name = long[1].replace("-", "_")
            known = SPECS.get(name)
            expected = f": expected {known.kind.expects}" if known else ""
            raise InvalidInput(
                f"config {path}: {name} is a number of more than {LONGEST_NUMBER} digits{expected}"
            ) from error
        raise InvalidInput(f"config {path} is not a TOML file: {_reason(error)}") from error


def _from_picture(path: Path) -> dict[str, Any]:
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            record = json.loads(image.info["fastnst"])  # its pixels are not decoded
        is_sheet = _CELLS in record
        settings = {} if is_sheet else dict(record["settings"])
    except Image.DecompressionBombError as error:
        raise InvalidInput(f"config {path} is a picture too large to be read") from error
    except (OSError, KeyError, ValueError, TypeError, SyntaxError, RecursionError) as error:
        raise InvalidInput(f"config {path} is a picture without the settings of a run") from error
    if is_sheet:
        raise InvalidInput(
            f"config {path} is a contact sheet, whose pictures each have settings of their own: "
            "name the PNG of a single picture, or a TOML file"
        )
    given = {name: value for name, value in settings.items() if value is not None}
    return {PRESET: DEFAULT_PRESET, **given}  # as ``write_config``


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())
