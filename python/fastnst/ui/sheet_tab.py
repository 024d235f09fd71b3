"""The tab for contact sheets: the content picture, and what the rows and columns differ in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from fastnst.settings.config import PRESET
from fastnst.ui.boxes import picture_box
from fastnst.ui.controls import NAMES, label
from fastnst.ui.sheet_wish import STYLE

NOTHING = ""  # the name of an axis that there is not
FIRST = "strength", "0.2,0.4,0.6,0.8"


class SheetTab:
    """The components of the tab; made within one.

    Attributes:
        content: The box for the content picture.
        controls: The name and the values of what columns differ in, and the same for rows.
    """

    def __init__(self) -> None:
        self.content = picture_box("Content picture of the sheet", "sheet-content")
        with gr.Row():
            columns = _axis("Vary", "columns", FIRST)
        with gr.Row():
            rows = _axis("And, in rows", "rows", (NOTHING, ""))
        self.controls = [*columns, *rows]


def from_sheet_controls(values: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    """What is varied, and over which values, as the tab's controls hold it: rows first."""
    columns, rows = (values[0], values[1]), (values[2], values[3])
    return tuple((str(name), str(text or "")) for name, text in (rows, columns) if name)


def to_sheet_controls(vary: Sequence[tuple[str, str]]) -> list[Any]:
    """What the tab's controls hold for a sheet."""
    *above, across = vary
    rows = above[0] if above else (NOTHING, "")
    return [*across, *rows]


def _axis(title: str, name: str, first: tuple[str, str]) -> list[Any]:
    """The components for the columns or for the rows."""
    choices = [("nothing", NOTHING), ("Preset", PRESET), ("Style", STYLE)]
    choices += [(label(setting), setting) for setting in NAMES]
    chosen = gr.Dropdown(
        choices, value=first[0], label=title, elem_id=f"sheet-{name}", min_width=130
    )
    values = gr.Textbox(
        first[1],
        label=f"Values of the {name}",
        info="Between commas, or between semicolons. Style: each of the pictures below.",
        elem_id=f"sheet-{name}-values",
        min_width=130,
        max_lines=1,
    )
    return [chosen, values]
