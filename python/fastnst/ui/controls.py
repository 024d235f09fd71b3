"""One control of the page for each setting, made from its ``Spec``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from fastnst.errors import InvalidInput
from fastnst.settings.kinds import Number, Whole, shown
from fastnst.settings.settings import SPECS, Settings
from fastnst.settings.spec import BASICS, GROUPS
from fastnst.ui.limits import check_names, names_of

BASIC = tuple(name for name, spec in SPECS.items() if spec.group == BASICS)
ADVANCED = {
    group: tuple(name for name, spec in SPECS.items() if spec.group == group)
    for group in GROUPS
    if group != BASICS
}
NAMES = (*BASIC, *(name for names in ADVANCED.values() for name in names))


def label(name: str) -> str:
    """A setting's name as the page shows it: ``Style weight``."""
    words = name.replace("_", " ")
    return words.replace("tv", "TV") if words.startswith("tv ") else words.capitalize()


def control(name: str, own: Settings) -> Any:
    """The component in which a setting is shown and changed.

    Args:
        name: Of the setting.
        own: The settings that the page was started with: its first values.
    """
    spec = SPECS[name]
    shared = {
        "value": to_control(getattr(own, name)),
        "label": label(name),
        "info": spec.help,
        "elem_id": f"setting-{name}",
        "min_width": 200,
    }
    names = names_of(name, own)
    if names:
        return gr.Dropdown(list(names), **shared)
    is_number = isinstance(spec.kind, (Whole, Number))
    # A browser's numbers are doubles, which have not all the whole numbers of a seed.
    is_exact = not isinstance(spec.kind, Whole) or spec.kind.high <= 2**53
    if is_number and spec.none is None and is_exact:
        return gr.Number(precision=0 if isinstance(spec.kind, Whole) else None, **shared)
    # A number that may be left out is a text: Gradio's box for numbers turns empty into 0.
    empty = f"empty: {spec.none.removeprefix('--')}" if spec.none else None
    return gr.Textbox(placeholder=empty, max_lines=1 if is_number else 20, **shared)


def to_control(value: Any) -> Any:
    """A setting's value as its control holds it."""
    if isinstance(value, tuple):
        return ",".join(str(_exact(one)) for one in value)
    return _exact(value)


def to_controls(settings: Settings) -> list[Any]:
    """Every setting's value as its control holds it, in the order of ``NAMES``."""
    return [to_control(getattr(settings, name)) for name in NAMES]


def from_controls(values: Sequence[Any], own: Settings) -> Settings:
    """The settings in the controls.

    Args:
        values: What the controls hold, in the order of ``NAMES``.
        own: The settings that the page was started with.

    Raises:
        InvalidInput: naming the setting, what was expected and what was found.
    """
    read = {name: _read(name, value) for name, value in zip(NAMES, values, strict=True)}
    return checked(read, own)


def checked(values: Mapping[str, Any], own: Settings) -> Settings:
    """Settings that name no file of the server.

    Raises:
        InvalidInput: for values that are none, or are not allowed on the page.
    """
    check_names(values, own)
    return Settings(**values)


def _exact(value: Any) -> Any:
    """A number without a point that says nothing: 10, where 10.0 would be shown."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read(name: str, value: Any) -> Any:
    spec = SPECS[name]
    if value is None or (isinstance(value, str) and not value.strip()):
        if spec.none is None and not isinstance(spec.kind, (Whole, Number)):
            return spec.kind.parse(name, "")  # an empty list, where that is allowed
        if spec.none is None:
            raise InvalidInput(f"{name} is empty: expected {spec.kind.expects}")
        return None
    if isinstance(value, str):
        if len(value) > 10_000:
            raise InvalidInput(f"{name} is {shown(value)}: expected {spec.kind.expects}")
        return spec.kind.parse(name, value)
    if isinstance(spec.kind, Whole) and isinstance(value, float) and value.is_integer():
        return int(value)  # as numbers come from a browser
    return value
