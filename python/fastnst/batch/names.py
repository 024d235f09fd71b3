"""The pattern by which a batch names its results. Nothing here imports torch."""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path

from fastnst.errors import InvalidInput
from fastnst.samples import PREFIX
from fastnst.settings.kinds import shown

NAME = "{content}-{style}.png"


def fill(name: str, content: str, style: str | tuple[str, ...]) -> str:
    """The name of a result, with the names of its pictures in the pattern's places.

    Args:
        name: The pattern; ``{content}`` and ``{style}`` are replaced.
        content: A path or ``sample:NAME``.
        style: Likewise, or several.

    Raises:
        InvalidInput: for a pattern that has other names in braces, or is none.
    """
    styles = (style,) if isinstance(style, str) else style
    stems = [Path(picture.removeprefix(PREFIX)).stem for picture in (content, *styles)]
    values = {"content": stems[0], "style": "-".join(stems[1:])}
    try:
        return "".join(_filled(*part, values) for part in string.Formatter().parse(name))
    except (KeyError, ValueError) as error:
        raise InvalidInput(
            f"name is {shown(name)}: expected text with {{content}} and {{style}}"
        ) from error


def _filled(
    text: str, field: str | None, form: str | None, turned: str | None, values: Mapping[str, str]
) -> str:
    """A part of a pattern; what else Python's formats can do is not for names of files."""
    if field is None:
        return text
    if form or turned:
        raise ValueError(form)
    return text + values[field]
