"""The tab for films: the clip, which frames of it, and how they hang together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import gradio as gr

from fastnst.errors import FastNSTError, InvalidInput
from fastnst.settings.kinds import Kind, Whole
from fastnst.ui import uploads
from fastnst.ui.boxes import clip_box
from fastnst.ui.controls import to_control
from fastnst.ui.limits import Limits
from fastnst.video.options import KINDS, FilmOptions, Selection

_FRAMES = 1_000_000_000


class _Field(NamedTuple):
    """A control of the tab: the name of what it sets, its kind, its text on the page, its help."""

    name: str
    kind: Kind
    label: str
    help: str


SELECTION = (
    _Field("start", Whole(0, _FRAMES), "First frame", "From 0."),
    _Field("end", Whole(1, _FRAMES), "Stop before", "Or empty."),
    _Field("every", Whole(1, _FRAMES), "Every", "N-th frame."),
)
HELD = (
    _Field(
        *("temporal_weight", KINDS["temporal_weight"], "Temporal weight"),
        "How much a frame is held to those before it.",
    ),
    _Field(
        *("frame_iterations", KINDS["frame_iterations"], "Frame iterations"),
        "Of each frame but a shot's first, at most.",
    ),
    _Field("band", KINDS["band"], "Band", "A frame is done this near to its shot's first loss."),
)
FIELDS = (*SELECTION, *HELD)


class FilmTab:
    """The components of the tab; made within one.

    Args:
        unavailable: Why there are no films here, which is shown in the place of them; None: they
            can be made.
        limits: What visitors may ask for.

    Attributes:
        clip: The box for the clip.
        about: A line about the clip that is in the box.
        controls: Those of ``FIELDS``, and whether cuts are looked for.
    """

    def __init__(self, unavailable: str | None, limits: Limits) -> None:
        if unavailable is not None:
            gr.Markdown(unavailable, elem_id="no-films")
        with gr.Column(visible=unavailable is None):
            self._make(limits)

    def _make(self, limits: Limits) -> None:
        self.clip = clip_box("Clip", "clip")
        self.about = gr.Markdown("", elem_id="about-clip")
        usual = FilmOptions()
        iterations = min(usual.frame_iterations, limits.iterations)
        first = to_film_controls(Selection(), replace(usual, frame_iterations=iterations))
        with gr.Row():
            boxes = [_box(field, value) for field, value in zip(SELECTION, first, strict=False)]
        with gr.Accordion("From frame to frame", open=False, elem_id="held"), gr.Row():
            rest = zip(HELD, first[len(SELECTION) :], strict=False)
            boxes += [_box(field, value) for field, value in rest]
            cuts = gr.Checkbox(
                value=True,
                label="Scene cuts",
                info="Looked for, to start anew there.",
                elem_id="film-cuts",
            )
        self.controls = [*boxes, cuts]


def to_film_controls(selection: Selection, options: FilmOptions) -> list[Any]:
    """What the tab's controls hold for a film."""
    values = [getattr(selection, field.name) for field in SELECTION]
    values += [getattr(options, field.name) for field in HELD]
    return [*("" if value is None else str(to_control(value)) for value in values), options.cuts]


def from_film_controls(values: Sequence[Any]) -> tuple[Selection, FilmOptions]:
    """Which frames, and how they hang together, as the tab's controls hold it.

    Raises:
        InvalidInput: naming what is wrong, what was expected and what was found.
    """
    read = [_read(field, value) for field, value in zip(FIELDS, values, strict=False)]
    chosen, held = read[: len(SELECTION)], read[len(SELECTION) :]
    start, end, every = chosen
    if end is not None and end <= (start or 0):
        raise InvalidInput(
            f"stop before is {end}: expected more than the first frame, {start or 0}"
        )
    options = {field.name: value for field, value in zip(HELD, held, strict=True)}
    return Selection(start or 0, end, every or 1), FilmOptions(**options, cuts=values[-1] is True)


def describe(path: str | None, limits: Limits) -> str:
    """A line about a clip that was uploaded: its frames, or why it cannot be used."""
    if not path:
        return ""
    try:
        clip = uploads.open_clip(path, limits.megapixels)
        frames = clip.counted()
    except FastNSTError as error:
        return str(error)
    return (
        f"{clip.width}×{clip.height}, {frames} frames, {float(clip.rate):.4g} a second; "
        f"this page makes films of up to {limits.frames} frames"
    )


def _box(field: _Field, value: str) -> Any:
    """A box for text: Gradio's for numbers turns empty into 0."""
    return gr.Textbox(
        value,
        label=field.label,
        info=field.help,
        elem_id=f"film-{field.name}",
        min_width=100,
        max_lines=1,
    )


def _read(field: _Field, value: Any) -> Any:
    """The value in a control; None if it is empty.

    Raises:
        InvalidInput: if it is none of its kind.
    """
    name = field.label.lower()
    if value is None or (isinstance(value, str) and not value.strip()):
        if field in HELD:
            raise field.kind.refuse(name, "")
        return None
    if isinstance(value, str):
        value = field.kind.parse(name, value)
    elif isinstance(value, float) and value.is_integer() and isinstance(field.kind, Whole):
        value = int(value)  # as numbers come from a browser
    return field.kind.check(name, value)
