"""The page of ``--preview``: a run that goes on in the terminal."""

from __future__ import annotations

from typing import Any

import gradio as gr

from fastnst.ui import view
from fastnst.ui.watch import Watch

REFRESH = 0.5  # seconds between two looks at a run


def preview_page(watch: Watch) -> Any:
    """A page that shows a run and can stop it: a Gradio ``Blocks``."""
    with gr.Blocks(title="fastnst", analytics_enabled=False) as page:
        gr.Markdown("# fastnst\nA running job.")
        with gr.Row():
            with gr.Column(scale=3):
                picture = gr.HTML(elem_id="view")
                film = gr.HTML(elem_id="film")
            with gr.Column(scale=2):
                status = gr.Markdown("preparing …", elem_id="status")
                plot = gr.HTML(elem_id="losses")
                stop = gr.Button("Stop", variant="stop", elem_id="stop")
        timer = gr.Timer(REFRESH)
        known = gr.State(0)  # finished frames of a film that the page shows already

        def look(shown_before: int) -> tuple[Any, ...]:
            ended = watch.ended
            finished, frames = watch.finished, tuple(watch.film)
            row = gr.skip() if finished == shown_before else view.film(frames, finished)
            frame = watch.frame()
            if frame is None:
                shown: tuple[Any, ...] = (gr.skip(), ended or gr.skip(), gr.skip())
            else:
                text = view.progress(watch, frame)
                shown = view.picture(frame.pixels, text), ended or text, view.curves(frame.history)
            can_stop = gr.Button(interactive=ended is None and not watch.stopping)
            return *shown, can_stop, gr.Timer(active=ended is None), row, finished

        outputs = [picture, status, plot, stop, timer, film, known]
        timer.tick(look, known, outputs, show_progress="hidden", api_name="look")
        stop.click(watch.stop, None, None, queue=False, api_name="stop")
    return page
