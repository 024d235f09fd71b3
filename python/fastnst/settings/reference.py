"""The settings as tables for the documents: ``python -m fastnst.settings.reference``."""

from __future__ import annotations

from fastnst.settings.presets import FIRST_PRESET, PRESETS
from fastnst.settings.settings import SPECS
from fastnst.settings.spec import GROUPS, typed


def tables() -> str:
    """A Markdown table for each group of settings: option, values, default, what it is."""
    parts = []
    for group in GROUPS:
        names = [name for name, of in SPECS.items() if of.group == group]
        parts.append(f"## {group}\n\n{_HEAD}\n" + "\n".join(map(_row, names)) + "\n")
    return "\n".join(parts)


_HEAD = "| option | values | default | what it is |\n| --- | --- | --- | --- |"


def _row(name: str) -> str:
    of, value = SPECS[name], getattr(PRESETS[FIRST_PRESET], name)
    default = of.none if value is None else f"`{typed(value)}`"
    return f"| `--{name.replace('_', '-')}` | {of.kind.expects} | {default} | {of.help} |"


if __name__ == "__main__":
    print(tables())
