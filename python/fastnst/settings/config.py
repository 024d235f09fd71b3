"""Settings in a TOML file: to be read, and written so that a run can be repeated.

A file has the settings by their names (``style_weight = 20``; ``style-weight`` will do), a list where
a setting is a list, and may have ``preset``, which the settings then change. A picture that fastnst
wrote as a PNG carries its settings and can be read in the place of a file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from fastnst import files
from fastnst._version import __version__
from fastnst.errors import InvalidInput
from fastnst.settings.presets import make_settings
from fastnst.settings.settings import Settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PRESET = "preset"
_KINDS = {field.name: str(field.type) for field in fields(Settings)}
_TEXTS = tuple(name for name, kind in _KINDS.items() if kind == "str")


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a file, and ``preset`` where it has one.

    Args:
        path: A TOML file, or a PNG that ``Result.save`` wrote.

    Raises:
        InvalidInput: naming the file and what is wrong in it: a name that is no setting, a value
            that a setting cannot have, or no settings at all.
    """
    if not path.is_file():
        raise InvalidInput(f"config {path} does not exist or is not a file")
    values = _from_picture(path) if path.suffix.lower() == ".png" else _from_toml(path)
    values = {name.replace("-", "_"): value for name, value in values.items()}
    preset = values.get(PRESET, "gatys")
    try:
        for name in (PRESET, *_TEXTS):
            if name in values and not isinstance(values[name], str):
                raise InvalidInput(f"{name} is {values[name]!r}: expected a text in quotes")
        make_settings(preset, {k: v for k, v in values.items() if k != PRESET})
    except InvalidInput as error:
        raise InvalidInput(f"config {path}: {error}") from error
    return values


def combine(config: Mapping[str, Any], preset: str | None, options: Mapping[str, Any]) -> Settings:
    """The settings of a run: the preset's, changed by the config, changed by the options.

    Args:
        config: What ``read_config`` returns, or nothing.
        preset: In the place of the config's.
        options: ``{setting: value}``.

    Raises:
        InvalidInput: for values that do not go together.
    """
    settings = {name: value for name, value in config.items() if name != PRESET}
    return make_settings(preset or config.get(PRESET, "gatys"), {**settings, **options})


def write_config(path: Path, settings: Settings) -> None:
    """Write every setting to a TOML file; ``read_config`` gives the same settings.

    A setting that is None is left out: TOML has no such value, and None is its default.

    Raises:
        InvalidInput: if the file's folder is missing or not writable.
        OutputFailed: if it cannot be written.
    """
    import tomli_w  # only here: the import of fastnst needs it not

    files.check_writable(path, "config")
    values = {name: value for name, value in settings.to_dict().items() if value is not None}
    text = f"# settings of a run of fastnst {__version__}\n{tomli_w.dumps(values)}"
    files.write(path, text.encode())


def parse_setting(name: str, text: str) -> Any:
    """The value of a setting from its text: a number, or for a list its parts between commas.

    Raises:
        InvalidInput: for a name that is no setting, or a text that is no value of it.
    """
    if name not in _KINDS:
        make_settings(overrides={name: text})  # says which setting may be meant
    kind = _KINDS[name]
    parts = [part.strip() for part in text.split(",") if part.strip()]
    try:
        if kind.startswith("tuple"):
            return tuple(float(part) for part in parts) if "float" in kind else tuple(parts)
        if "bool" in kind:
            return {"true": True, "yes": True, "false": False, "no": False}[text.lower()]
        return float(text) if "float" in kind else int(text) if "int" in kind else text
    except (ValueError, KeyError) as error:
        raise InvalidInput(
            f"{name} is {text!r}: expected {kind.removesuffix(' | None')}"
        ) from error


def _from_toml(path: Path) -> dict[str, Any]:
    try:
        return dict(tomllib.loads(path.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InvalidInput(f"config {path} is not a TOML file: {error}") from error


def _from_picture(path: Path) -> dict[str, Any]:
    try:
        with Image.open(path) as image:
            record = json.loads(getattr(image, "text", {})["fastnst"])
        settings = dict(record["settings"])
    except (UnidentifiedImageError, OSError, KeyError, ValueError, TypeError) as error:
        raise InvalidInput(f"config {path} is a picture without the settings of a run") from error
    return {name: value for name, value in settings.items() if value is not None}
