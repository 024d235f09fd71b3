"""What the page shows of a run: the components, and their values while it waits, runs and ends."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from fastnst.ui import view
from fastnst.ui.boxes import before_after, film_player
from fastnst.ui.outcome import Outcome
from fastnst.ui.studio import Job, Studio


class Sight(NamedTuple):
    """What tells one sight of a run from the next.

    Attributes:
        text: The run and its status.
        film: The run and how many frames of its film are finished.
    """

    text: str = ""
    film: str = ""


NOTHING = Sight()


class Screen:
    """The components that show a run; made within a Gradio ``Blocks``.

    Attributes:
        parts: The components, in the order of the values of ``show``.
    """

    def __init__(self) -> None:
        status = gr.Markdown(
            "Choose a content picture or a clip, and a style picture.", elem_id="status"
        )
        picture = gr.HTML(elem_id="view")
        with gr.Column(visible=False, elem_id="cinema") as cinema:
            player = film_player("Film", "player")
            save = gr.DownloadButton("Download the MP4", elem_id="download-film")
        row = gr.HTML(elem_id="film")
        link = gr.HTML(elem_id="result")
        with gr.Column(visible=False, elem_id="comparison") as comparison:
            slider = before_after("Before and after", "slider")
        plot = gr.HTML(elem_id="losses")
        self.parts = [status, picture, row, cinema, player, save, link, comparison, slider, plot]


ROW = 2  # the place of the finished frames among the parts
PARTS = 10


def look(studio: Studio, job: Job, before: Sight) -> tuple[Sight, list[Any]]:
    """A run as it is, and values for the parts of the screen where they differ from before."""
    now, parts = _look(studio, job)
    if now.text == before.text:
        return now, [gr.skip()] * PARTS
    if now.film == before.film:
        parts[ROW] = gr.skip()
    return now, parts


def show_ended(job: Job) -> list[Any]:
    """Values for the parts that show a run that has ended."""
    found = job.outcome
    if found is not None:
        return _outcome(found, _alert(found.text) if job.error else found.text)
    if job.error:
        return _parts(_alert(f"failed: {job.error}"))
    return _parts("stopped before there was a picture")


def _look(studio: Studio, job: Job) -> tuple[Sight, list[Any]]:
    if job.state == "waiting":
        before, waiting = studio.place(job)
        text = f"waiting: {before} before yours, {waiting} waiting in all"
        return Sight(f"{job.key} {text}", job.key), _parts(text)
    if job.state != "running":
        return Sight(f"{job.key} {job.state}", f"{job.key} {job.state}"), show_ended(job)
    finished, frames, frame = job.finished, tuple(job.film), job.frame()
    row = view.film(frames, finished) if frames else ""
    if frame is None:
        text = "stopping; preparing …" if job.stopping else "preparing …"
        return Sight(f"{job.key} {text}", f"{job.key} {finished}"), _parts(text, row=row)
    text = view.progress(job, frame)
    picture, curves = view.picture(frame.pixels, text), view.curves(frame.history)
    sight = Sight(f"{job.key} {text}", f"{job.key} {finished}")
    return sight, _parts(text, picture=picture, row=row, curves=curves)


def _alert(text: str) -> str:
    """What went wrong, so that it is seen and read out."""
    return f'<div class="failed" role="alert">{html.escape(text)}</div>'


def _outcome(found: Outcome, status: str) -> list[Any]:
    return _parts(
        status,
        picture=found.picture,
        row=found.row,
        film=found.film,
        link=found.download,
        pair=found.pair,
        curves=found.curves,
    )


def _parts(
    status: str,
    *,
    picture: str = "",
    row: str = "",
    film: Path | None = None,
    link: str = "",
    pair: tuple[str, str] | None = None,
    curves: str = "",
) -> list[Any]:
    path = str(film) if film is not None and film.exists() else None  # an old one may be gone
    cinema, comparison = gr.Column(visible=path is not None), gr.Column(visible=pair is not None)
    return [status, picture, row, cinema, path, path, link, comparison, pair, curves]
