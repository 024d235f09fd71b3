"""The page of ``fastnst ui``, in Gradio."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components.gallery import GalleryData, GalleryImage
from gradio.components.imageslider import SliderData
from gradio.data_classes import ImageData

from fastnst import samples
from fastnst.errors import InvalidInput
from fastnst.settings.config import combine, read_config
from fastnst.settings.presets import PRESETS, needs_torchvision
from fastnst.ui import thumbnails, view
from fastnst.ui.controls import (
    ADVANCED,
    BASIC,
    checked,
    control,
    from_controls,
    to_controls,
)
from fastnst.ui.studio import Job, Studio, Visitor, Wish

REFRESH = 0.5  # seconds between two looks at a run
PICTURES = ["image"]  # files that the chooser offers


def studio_page(studio: Studio) -> Any:
    """The page of ``fastnst ui``: a Gradio ``Blocks``."""
    with gr.Blocks(title="fastnst", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown("# fastnst\nNeural style transfer by optimisation (Gatys, Ecker and Bethge).")
        token = gr.BrowserState(None, storage_key="fastnst-visitor")
        seen = gr.State("")
        timer = gr.Timer(REFRESH, active=False)
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                content = _picture_box("Content picture", "content")
                scenes = _samples("content", "Built-in contents: click to take one")
                styles = _picture_boxes("Style pictures, one or more", "styles")
                paintings = _samples("style", "Built-in styles: click to add one")
            with gr.Column(scale=1, min_width=320):
                preset = gr.Dropdown(_presets(), value=None, label="Preset", elem_id="preset",
                                     info="Sets everything below.")  # fmt: skip
                controls = {name: control(name, studio.settings) for name in BASIC}
                with gr.Accordion("Advanced", open=False, elem_id="advanced"):
                    for group, names in ADVANCED.items():
                        gr.Markdown(f"### {group}")
                        with gr.Row():
                            controls |= {name: control(name, studio.settings) for name in names}
                with gr.Accordion("Masks", open=False, elem_id="masks"):
                    content_mask = _picture_box("Content mask", "content-mask")
                    style_masks = _picture_boxes("Style masks, one for each style", "style-masks")
                load = gr.UploadButton("Load settings from a PNG of fastnst or a TOML file",
                                       file_types=[".png", ".toml"], elem_id="load",
                                       size="sm")  # fmt: skip
                with gr.Row():
                    start = gr.Button("Start", variant="primary", elem_id="start",
                                      interactive=False, min_width=90)  # fmt: skip
                    stop = gr.Button("Stop", variant="stop", elem_id="stop", interactive=False,
                                     min_width=90)  # fmt: skip
                    resume = gr.Button("Resume", elem_id="resume", interactive=False,
                                       min_width=90)  # fmt: skip
            with gr.Column(scale=2, min_width=320):
                status = gr.Markdown("Choose a content and a style picture.", elem_id="status")
                picture = gr.HTML(elem_id="view")
                link = gr.HTML(elem_id="result")
                slider = _slider()
                plot = gr.HTML(elem_id="losses")
                strip = _gallery("Runs of this session", "runs", visible=False)

        settings = list(controls.values())
        buttons = [start, stop, resume]
        shown = [status, picture, link, slider, plot]
        everything = [*shown, strip, *buttons, timer, seen]

        def can(visitor: Visitor, ready: bool) -> list[Any]:
            """The buttons, each enabled only where it does something."""
            job = visitor.job
            active = job is not None and job.active
            return [
                gr.Button(interactive=ready and not active),
                gr.Button(interactive=active and not (job is not None and job.stopping)),
                gr.Button(interactive=studio.resumable(visitor)),
            ]

        def look(who: Any, before: str, ready: bool) -> list[Any]:
            """All that shows a visitor's run, where it differs from what is shown already."""
            visitor = studio.visitor(who)
            job = visitor.job
            if job is None:
                return [gr.skip()] * 6 + [*can(visitor, ready), gr.Timer(active=False), before]
            active = job.active
            now, parts = _view(studio, job)
            if now == before:
                parts = [gr.skip()] * 5
            runs = _strip(visitor) if not active and now != before else gr.skip()
            return [*parts, runs, *can(visitor, ready), gr.Timer(active=active), now]

        def tick(who: Any, before: str, picked: Any, several: Any) -> list[Any]:
            return look(who, before, bool(picked) and bool(several))

        def arrive(known: Any) -> list[Any]:
            who = studio.admit(known)
            visitor = studio.visitor(who)
            values = [gr.skip()] * len(settings)
            if visitor.job is not None:
                values = to_controls(visitor.job.wish.settings)
            rest = look(who, "", False)
            rest[5] = _strip(visitor)
            return [who, *values, *rest]

        def begin(
            who: Any, picked: Any, several: Any, mask: Any, masks: Any, *values: Any
        ) -> list[Any]:
            with _refusals():
                wish = Wish(
                    picked,
                    _paths(several),
                    from_controls(values, studio.settings),
                    mask,
                    _paths(masks),
                )
                studio.start(who, wish)
            return look(who, "", True)

        def go_on(who: Any, picked: Any, several: Any) -> list[Any]:
            with _refusals():
                studio.resume(who)
            return look(who, "", bool(picked) and bool(several))

        def halt(who: Any, before: str, picked: Any, several: Any) -> list[Any]:
            studio.stop(who)
            return look(who, before, bool(picked) and bool(several))

        def refresh(who: Any, picked: Any, several: Any) -> list[Any]:
            return can(studio.visitor(who), bool(picked) and bool(several))

        def take_preset(name: Any) -> list[Any]:
            if name not in PRESETS:
                return [gr.skip()] * len(settings)
            return to_controls(PRESETS[name])

        def take_file(path: Any) -> list[Any]:
            with _refusals(Path(str(path))):
                found = combine(read_config(Path(str(path))), None, {})
                return to_controls(checked(found.to_dict(), studio.settings))

        def take_scene(event: gr.SelectData) -> tuple[str, Any]:
            return _sample("content", event.index), gr.Gallery(selected_index=None)

        def add_painting(several: Any, event: gr.SelectData) -> tuple[Any, Any]:
            path = _sample("style", event.index)
            return [*_paths(several), path], gr.Gallery(selected_index=None)

        def take_run(who: Any, event: gr.SelectData) -> list[Any]:
            finished = studio.visitor(who).finished
            index = event.index
            if not isinstance(index, int) or not 0 <= index < len(finished):
                return [gr.skip()] * 6
            return [*_parts(finished[index]), gr.Gallery(selected_index=None)]

        free = {"concurrency_limit": 16, "show_progress": "hidden"}
        page.load(arrive, token, [token, *settings, *everything], api_name="arrive", **free)
        timer.tick(tick, [token, seen, content, styles], everything, api_name="look", **free)
        start.click(
            begin, [token, content, styles, content_mask, style_masks, *settings], everything,
            api_name="start", **free,
        )  # fmt: skip
        resume.click(go_on, [token, content, styles], everything, api_name="resume", **free)
        stop.click(halt, [token, seen, content, styles], everything, api_name="stop", **free)
        gr.on([content.change, styles.change], refresh, [token, content, styles], buttons,
              api_name=False, **free)  # fmt: skip
        preset.input(take_preset, preset, settings, api_name="preset", **free)
        load.upload(take_file, load, settings, api_name="settings", **free)
        scenes.select(take_scene, None, [content, scenes], api_name=False)
        paintings.select(add_painting, styles, [styles, paintings], api_name=False)
        strip.select(take_run, token, [*shown, strip], api_name=False, **free)
    page.queue(max_size=1000)
    return page


class _refusals:
    """Turns a refusal into a message on the page; ``path`` is not named in it."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, InvalidInput):
            text = str(error)
            if self.path is not None:
                text = text.replace(str(self.path), self.path.name)
            raise gr.Error(text, print_exception=False) from error


# ------------------------------------------------------------------------------- what is shown --


def _view(studio: Studio, job: Job) -> tuple[str, list[Any]]:
    """What tells a sight of a run from the next, and the five parts that show it."""
    if job.state == "waiting":
        before, waiting = studio.place(job)
        text = f"waiting: {before} before yours, {waiting} waiting in all"
        return f"{job.key} {text}", [text, "", "", gr.ImageSlider(visible=False), ""]
    if job.state == "running":
        frame = job.frame()
        text = "preparing …" if frame is None else view.caption(frame)
        if job.stopping:
            text = f"stopping; {text}"
        if frame is None:
            return f"{job.key} {text}", [text, "", "", gr.ImageSlider(visible=False), ""]
        return f"{job.key} {text}", [
            text,
            view.picture(frame.pixels, text),
            "",
            gr.ImageSlider(visible=False),
            view.curves(frame.history),
        ]
    return f"{job.key} {job.state}", _parts(job)


def _parts(job: Job) -> list[Any]:
    """The five parts that show a run that has ended."""
    found = job.outcome
    if found is None:
        text = f"failed: {job.error}" if job.error else "stopped before there was a picture"
        return [text, "", "", gr.ImageSlider(visible=False), ""]
    slider = gr.ImageSlider(value=(found.before, found.after), visible=True)
    return [found.text, found.picture, found.download, slider, found.curves]


def _strip(visitor: Visitor) -> Any:
    """The runs of a session, oldest first."""
    runs = [
        (job.outcome.thumbnail, job.outcome.caption)
        for job in visitor.finished
        if job.outcome is not None
    ]
    return gr.Gallery(value=runs, visible=bool(runs))


# ---------------------------------------------------------------------------------- components --


def _presets() -> list[tuple[str, str]]:
    return [
        (f"{name} (needs torchvision)" if needs_torchvision(settings) else name, name)
        for name, settings in PRESETS.items()
    ]


def _picture_box(label: str, name: str) -> Any:
    """A box for one picture that hands on the file as it came: fastnst opens it, within its limits."""
    box = gr.Image(
        label=label,
        sources=["upload", "clipboard"],
        height=200,
        elem_id=name,
        type="filepath",
        buttons=[],
    )
    box.preprocess = _path  # type: ignore[method-assign, unused-ignore]
    return box


def _path(payload: Any) -> str | None:
    return None if payload is None else payload.path


def _picture_boxes(label: str, name: str) -> Any:
    """A box for several pictures, handed on as files."""
    return gr.Gallery(
        label=label,
        elem_id=name,
        type="filepath",
        file_types=PICTURES,
        columns=4,
        height=200,
        interactive=True,
        object_fit="cover",
        allow_preview=False,
        buttons=[],
    )


def _paths(several: Any) -> tuple[str, ...]:
    return tuple(str(item[0]) for item in several or () if item[0])


def _gallery(label: str, name: str, **more: Any) -> Any:
    """Pictures that are sent inside the page; a click on one is an event."""
    gallery = gr.Gallery(
        label=label,
        elem_id=name,
        columns=more.pop("columns", 6),
        height="auto",
        interactive=False,
        allow_preview=False,
        object_fit="cover",
        buttons=[],
        **more,
    )
    gallery.postprocess = _inside  # type: ignore[method-assign, unused-ignore]
    return gallery


def _inside(value: Sequence[tuple[str, str]] | None) -> GalleryData:
    pictures = [
        GalleryImage(image=ImageData(path=None, url=url), caption=caption)
        for url, caption in value or ()
    ]
    return GalleryData(root=pictures)


def _slider() -> Any:
    slider = gr.ImageSlider(
        label="Before and after", elem_id="slider", interactive=False, visible=False, buttons=[]
    )
    slider.postprocess = _pair  # type: ignore[method-assign, unused-ignore]
    return slider


def _pair(value: tuple[str, str] | None) -> SliderData:
    if value is None:
        return SliderData(root=None)
    before, after = (ImageData(path=None, url=url) for url in value)
    return SliderData(root=(before, after))


def _samples(kind: samples.Kind, label: str) -> Any:
    names = samples.names(kind)
    gallery = _gallery(label, f"{kind}-samples", columns=len(names))
    gallery.value = _inside([(thumbnails.data_url(name), name) for name in names]).model_dump()
    return gallery


def _sample(kind: samples.Kind, index: Any) -> str:
    """The file of a built-in picture, drawn when it is first chosen."""
    names = samples.names(kind)
    return _drawn(names[index] if isinstance(index, int) and 0 <= index < len(names) else names[0])


@functools.cache
def _drawn(name: str) -> str:
    folder = tempfile.mkdtemp(prefix="fastnst-sample-")
    path = Path(folder, f"{name}.png")
    samples.load(name).save(path)
    return str(path)
