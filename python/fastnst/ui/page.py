"""The page itself, in Gradio."""

from __future__ import annotations

import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from fastnst import samples
from fastnst.cache import Cache
from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.images.decode import SAMPLE_PREFIX
from fastnst.settings.presets import make_settings
from fastnst.settings.settings import INITS, Settings
from fastnst.ui import view
from fastnst.ui.jobs import Frame, Job, Watch, check_upload, explain

REFRESH = 0.5  # seconds between two looks at a run
QUEUE = 200  # jobs that may wait
RESUMABLE = 4  # stopped runs whose state is kept: each may take hundreds of megabytes
CSS = "#download { display: block; padding: 0.6em; text-align: center; font-weight: 600 }"


@dataclass(frozen=True)
class Limits:
    """What visitors may ask for.

    Attributes:
        megabytes: Of an uploaded file.
        megapixels: Of an uploaded picture.
        size: Long side of a result, in pixels.
        iterations: Of a run.
    """

    megabytes: int = 20
    megapixels: float = 40.0
    size: int = 1024
    iterations: int = 1000


class Studio:
    """The visitors' runs: one at a time; the others wait in Gradio's queue, in order.

    Args:
        limits: What visitors may ask for.
        settings: What is not on the page.
    """

    def __init__(self, limits: Limits, settings: Settings) -> None:
        self.limits = limits
        self.settings = settings
        self.kept = Cache()
        self.jobs: dict[str, Job] = {}  # by session: the run at hand
        self.states: OrderedDict[str, Path] = OrderedDict()  # by session: of a stopped run
        self._folder = tempfile.TemporaryDirectory(prefix="fastnst-")

    def choose(self, values: dict[str, Any]) -> Settings:
        """The settings that a visitor asks for.

        Raises:
            InvalidInput: for one that is not allowed.
        """
        for name, most in (("size", self.limits.size), ("iterations", self.limits.iterations)):
            if not isinstance(values[name], (int, float)) or not 1 <= values[name] <= most:
                raise InvalidInput(f"{name} is {values[name]!r}: expected 1 to {most}")
            values = {**values, name: round(values[name])}
        if values["init"] not in INITS:  # a path on the server is none of a visitor's business
            raise InvalidInput(f"init is {values['init']!r}: choose one of {', '.join(INITS)}")
        return make_settings("gatys", {**self.settings.to_dict(), **values})

    def run(
        self, session: str, content: str, style: str, settings: Settings, resume: bool
    ) -> Iterator[Frame | Job]:
        """Frames of a run as they come, then the job, which has ended.

        Raises:
            InvalidInput: if there is no stopped run to resume.
        """
        state = self.states.pop(session, None)
        if resume and (state is None or not state.exists()):
            raise InvalidInput("there is no stopped run to resume; start a new one")
        name = hashlib.sha256(session.encode()).hexdigest()  # the visitor's browser chose it
        path = Path(self._folder.name, f"{name}.checkpoint")
        job = Job(content, style, settings, self.kept, path, path if resume else None)
        self.jobs[session] = job
        try:
            shown = None
            while not job.wait(REFRESH):
                frame = job.frame()
                if frame is not None and frame is not shown:
                    shown = frame
                    yield frame
        finally:
            job.stop()  # unless it has ended: the visitor has left
            job.wait(60.0)
            self.jobs.pop(session, None)
            if job.stopped or job.error is not None:
                self._keep(session, path)
            else:
                path.unlink(missing_ok=True)
        yield job

    def stop(self, session: str) -> None:
        """Stop a session's run after the iteration at hand."""
        job = self.jobs.get(session)
        if job is not None:
            job.stop()

    def leave(self, session: str) -> None:
        """Forget a visitor."""
        self.stop(session)
        path = self.states.pop(session, None)
        if path is not None:
            path.unlink(missing_ok=True)

    def _keep(self, session: str, path: Path) -> None:
        if not path.exists():
            return
        self.states[session] = path
        while len(self.states) > RESUMABLE:
            _, oldest = self.states.popitem(last=False)
            oldest.unlink(missing_ok=True)


def _upload(label: str) -> Any:
    """An upload box that hands on the file as it came: fastnst opens it, within its own limits."""
    box = gr.Image(
        label=label,
        sources=["upload", "clipboard"],
        height=200,
        elem_id=label.lower(),
        type="filepath",
    )
    box.preprocess = _path  # type: ignore[method-assign, unused-ignore]
    return box


def _path(payload: Any) -> str | None:
    return None if payload is None else payload.path


def studio_page(studio: Studio) -> Any:
    """The page of ``fastnst ui``: a Gradio ``Blocks``."""
    limits = studio.limits
    default = studio.settings
    photos = [f"{SAMPLE_PREFIX}{n}" for n, s in samples.SAMPLES.items() if s.kind == "content"]
    styles = [f"{SAMPLE_PREFIX}{n}" for n, s in samples.SAMPLES.items() if s.kind == "style"]

    with gr.Blocks(title="fastnst", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown("# fastnst\nNeural style transfer by optimisation (Gatys, Ecker and Bethge).")
        with gr.Row():
            with gr.Column(scale=1):
                content = _upload("Content")
                content_sample = gr.Dropdown(photos, value=photos[0], elem_id="content-sample",
                                             label="… or, with nothing uploaded, a built-in picture")  # fmt: skip
                style = _upload("Style")
                style_sample = gr.Dropdown(styles, value=styles[0], elem_id="style-sample",
                                           label="… or, with nothing uploaded, a built-in picture")  # fmt: skip
            with gr.Column(scale=1):
                size = gr.Slider(32, limits.size, value=min(256, limits.size), step=16,
                                 label="Long side, pixels", elem_id="size")  # fmt: skip
                iterations = gr.Slider(1, limits.iterations, step=1, elem_id="iterations",
                                       value=min(default.iterations, limits.iterations),
                                       label="Iterations")  # fmt: skip
                content_weight = gr.Slider(0, 10, value=default.content_weight, step=0.1,
                                           label="Content weight α")  # fmt: skip
                style_weight = gr.Slider(0, 200, value=default.style_weight, step=1,
                                         label="Style weight β")  # fmt: skip
                tv_weight = gr.Slider(0, 10, value=default.tv_weight, step=0.1,
                                      label="Total variation τ: smoother")  # fmt: skip
                init = gr.Radio(list(INITS), value=default.init, label="Start from")
                seed = gr.Number(default.seed, precision=0, minimum=0, label="Seed of the noise")
                with gr.Row():
                    start = gr.Button("Start", variant="primary", elem_id="start")
                    stop = gr.Button("Stop", variant="stop", elem_id="stop")
                    resume = gr.Button("Resume", elem_id="resume")
            with gr.Column(scale=2):
                picture = _picture()
                status, plot, link = _account()
        inputs = [content, content_sample, style, style_sample, size, iterations, content_weight,
                  style_weight, tv_weight, init, seed]  # fmt: skip
        outputs = [picture, status, plot, link]

        def work(
            values: tuple[Any, ...], session: str, going_on: bool
        ) -> Iterator[tuple[Any, ...]]:
            names = ("size", "iterations", "content_weight", "style_weight", "tv_weight", "init",
                     "seed")  # fmt: skip
            try:
                # a sample is asked for by its name in the list, and nothing else is
                content_path, style_path = (
                    check_upload(upload or (sample if sample in known else None), label,
                                 limits.megapixels)
                    for upload, sample, known, label in (
                        (values[0], values[1], photos, "content"),
                        (values[2], values[3], styles, "style"),
                    )
                )  # fmt: skip
                settings = studio.choose(dict(zip(names, values[4:], strict=True)))
                if not going_on:
                    yield gr.skip(), "preparing …", gr.skip(), ""
                for seen in studio.run(session, content_path, style_path, settings, going_on):
                    yield _frame(seen) if isinstance(seen, Frame) else _end(seen)
            except InvalidInput as error:
                raise gr.Error(str(error), print_exception=False) from error

        def begin(request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
            yield from work(values, str(request.session_hash), False)

        def go_on(request: gr.Request, *values: Any) -> Iterator[tuple[Any, ...]]:
            yield from work(values, str(request.session_hash), True)

        def halt(request: gr.Request) -> None:
            studio.stop(str(request.session_hash))

        def leave(request: gr.Request) -> None:
            studio.leave(str(request.session_hash))

        one = {"concurrency_limit": 1, "concurrency_id": "run", "show_progress_on": status}
        start.click(begin, inputs, outputs, api_name="start", **one)
        resume.click(go_on, inputs, outputs, api_name="resume", **one)
        stop.click(halt, None, None, api_name="stop", queue=False)
        page.unload(leave)
    page.queue(max_size=QUEUE)
    return page


def preview_page(watch: Watch) -> Any:
    """The same view, on a run that goes on elsewhere: a Gradio ``Blocks``."""
    with gr.Blocks(title="fastnst", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown("# fastnst\nA running job.")
        with gr.Row():
            with gr.Column(scale=3):
                picture = _picture()
            with gr.Column(scale=2):
                status, plot, link = _account()
                stop = gr.Button("Stop", variant="stop", elem_id="stop")
        timer = gr.Timer(REFRESH)

        def look() -> tuple[Any, ...]:
            frame = watch.frame()
            return (gr.skip(),) * 4 if frame is None else _frame(frame)

        timer.tick(look, None, [picture, status, plot, link], show_progress="hidden")
        stop.click(watch.stop, None, None, queue=False)
    return page


def serve(page: Any, host: str, port: int | None, *, browser: bool, megabytes: int = 20) -> str:
    """Serve a page from a thread of its own; returns its address.

    Args:
        page: One of the above.
        host: 127.0.0.1: nobody but this machine sees it.
        port: None: the first free one from 7860.
        browser: Open it.
        megabytes: The largest upload.

    Raises:
        BackendUnavailable: if the address cannot be used.
    """
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            inbrowser=browser,
            prevent_thread_lock=True,
            share=False,
            quiet=True,
            show_error=False,
            footer_links=[],
            max_file_size=megabytes * 2**20,
            ssr_mode=False,
            theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=CSS,
        )
    except OSError as error:
        raise BackendUnavailable(f"the page cannot be served at {host}: {error}") from error
    return str(address)


def _picture() -> Any:
    return gr.HTML(elem_id="view", label="The picture")


def _account() -> tuple[Any, Any, Any]:
    """What stands beside the picture: where the run is, the curves, the download."""
    status = gr.Markdown("", elem_id="status")
    link = gr.HTML(elem_id="result")
    plot = gr.HTML(elem_id="losses")
    return status, plot, link


def _frame(frame: Frame) -> tuple[Any, ...]:
    text = view.caption(frame)
    return view.picture(frame.pixels, text), text, view.curves(frame.history), ""


def _end(job: Job) -> tuple[Any, ...]:
    if job.result is None:
        assert job.error is not None
        raise gr.Error(explain(job), print_exception=False)
    text = view.summary(job.result, job.stopped)
    if job.error is not None:
        text = f"{explain(job)}; {text}"
    return (
        view.picture(job.result.pixels, text),
        text,
        view.curves(job.result.history),
        view.download(job.result),
    )
