"""The page of ``fastnst ui``, in Gradio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from fastnst.errors import InvalidInput
from fastnst.settings.config import combine, read_config
from fastnst.settings.presets import PRESETS, needs_torchvision
from fastnst.ui import view
from fastnst.ui.boxes import (
    before_after,
    paths,
    picture_box,
    picture_boxes,
    sample_at,
    sample_strip,
    strip,
)
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


def studio_page(studio: Studio) -> Any:
    """The page of ``fastnst ui``: a Gradio ``Blocks``."""
    with gr.Blocks(title="fastnst", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown("# fastnst\nNeural style transfer by optimisation (Gatys, Ecker and Bethge).")
        token = gr.BrowserState(None, storage_key="fastnst-visitor")
        seen = gr.State("")
        timer = gr.Timer(REFRESH, active=False)
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                content = picture_box("Content picture", "content")
                scenes = sample_strip("content", "Built-in contents: click to take one")
                styles = picture_boxes("Style pictures, one or more", "styles")
                paintings = sample_strip("style", "Built-in styles: click to add one")
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
                    content_mask = picture_box("Content mask", "content-mask")
                    style_masks = picture_boxes("Style masks, one for each style", "style-masks")
                load = gr.UploadButton("Load settings from a PNG of fastnst or a TOML file",
                                       file_types=[".png", ".toml"], elem_id="load",
                                       size="sm")  # fmt: skip
            with gr.Column(scale=2, min_width=320):
                with gr.Row():
                    start = gr.Button("Start", variant="primary", elem_id="start",
                                      interactive=False, min_width=90)  # fmt: skip
                    stop = gr.Button("Stop", variant="stop", elem_id="stop", interactive=False,
                                     min_width=90)  # fmt: skip
                    resume = gr.Button("Resume", elem_id="resume", interactive=False,
                                       min_width=90)  # fmt: skip
                status = gr.Markdown("Choose a content and a style picture.", elem_id="status")
                picture = gr.HTML(elem_id="view")
                link = gr.HTML(elem_id="result")
                with gr.Column(visible=False, elem_id="comparison") as comparison:
                    slider = before_after("Before and after", "slider")
                plot = gr.HTML(elem_id="losses")
                with gr.Column(visible=False, elem_id="session") as session:
                    runs = strip("Runs of this session", "runs", columns=6)

        settings = list(controls.values())
        buttons = [start, stop, resume]
        shown = [status, picture, link, slider, comparison, plot]
        everything = [*shown, runs, session, *buttons, timer, seen]

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
                return [gr.skip()] * 8 + [*can(visitor, ready), gr.Timer(active=False), before]
            active = job.active
            now, parts = _view(studio, job)
            if now == before:
                parts = [gr.skip()] * 6
            ended = not active and now != before
            earlier = _earlier(visitor) if ended else [gr.skip()] * 2
            return [*parts, *earlier, *can(visitor, ready), gr.Timer(active=active), now]

        def tick(who: Any, before: str, picked: Any, several: Any) -> list[Any]:
            return look(who, before, bool(picked) and bool(several))

        def arrive(known: Any) -> list[Any]:
            who = studio.admit(known)
            visitor = studio.visitor(who)
            values = [gr.skip()] * len(settings)
            if visitor.job is not None:
                values = to_controls(visitor.job.wish.settings)
            rest = look(who, "", False)
            rest[6:8] = _earlier(visitor)
            return [who, *values, *rest]

        def begin(
            who: Any, picked: Any, several: Any, mask: Any, masks: Any, *values: Any
        ) -> list[Any]:
            with _refusals():
                wish = Wish(
                    picked,
                    paths(several),
                    from_controls(values, studio.settings),
                    mask,
                    paths(masks),
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

        def take_scene(event: gr.SelectData) -> str:
            return sample_at("content", event.index)

        def add_painting(several: Any, event: gr.SelectData) -> list[str]:
            return [*paths(several), sample_at("style", event.index)]

        def take_run(who: Any, event: gr.SelectData) -> list[Any]:
            finished = studio.visitor(who).finished
            index = event.index
            if not isinstance(index, int) or not 0 <= index < len(finished):
                return [gr.skip()] * 6
            return _parts(finished[index])

        free: dict[str, Any] = {"concurrency_limit": 16, "show_progress": "hidden"}
        page.load(arrive, token, [token, *settings, *everything], api_name="arrive", **free)
        timer.tick(tick, [token, seen, content, styles], everything, api_name="look", **free)
        start.click(
            begin, [token, content, styles, content_mask, style_masks, *settings], everything,
            api_name="start", **free,
        )  # fmt: skip
        resume.click(go_on, [token, content, styles], everything, api_name="resume", **free)
        stop.click(halt, [token, seen, content, styles], everything, api_name="stop", **free)
        recheck: dict[str, Any] = {
            "fn": refresh, "inputs": [token, content, styles], "outputs": buttons,
            "api_name": False, "trigger_mode": "always_last", **free,
        }  # fmt: skip
        gr.on([content.change, styles.change], **recheck)
        preset.input(take_preset, preset, settings, api_name="preset", **free)
        load.upload(take_file, load, settings, api_name="settings", **free)
        # An empty gallery that an event fills reports no change, so the buttons are refreshed after
        # each choice, from what the boxes hold by then: two choices may be under way at once.
        scenes.select(take_scene, None, content, api_name=False).then(**recheck)
        paintings.select(add_painting, styles, styles, api_name=False).then(**recheck)
        runs.select(take_run, token, shown, api_name=False, **free)
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
    """What tells a sight of a run from the next, and the six parts that show it."""
    if job.state == "waiting":
        before, waiting = studio.place(job)
        text = f"waiting: {before} before yours, {waiting} waiting in all"
        return f"{job.key} {text}", [text, "", "", None, gr.Column(visible=False), ""]
    if job.state == "running":
        frame = job.frame()
        text = "preparing …" if frame is None else view.caption(frame)
        if job.stopping:
            text = f"stopping; {text}"
        if frame is None:
            return f"{job.key} {text}", [text, "", "", None, gr.Column(visible=False), ""]
        return f"{job.key} {text}", [
            text,
            view.picture(frame.pixels, text),
            "",
            None,
            gr.Column(visible=False),
            view.curves(frame.history),
        ]
    return f"{job.key} {job.state}", _parts(job)


def _parts(job: Job) -> list[Any]:
    """The six parts that show a run that has ended."""
    found = job.outcome
    if found is None:
        text = f"failed: {job.error}" if job.error else "stopped before there was a picture"
        return [text, "", "", None, gr.Column(visible=False), ""]
    pair, visible = (found.before, found.after), gr.Column(visible=True)
    return [found.text, found.picture, found.download, pair, visible, found.curves]


def _earlier(visitor: Visitor) -> list[Any]:
    """The runs of a session, oldest first, and whether they are shown."""
    runs = [
        (job.outcome.thumbnail, job.outcome.caption)
        for job in visitor.finished
        if job.outcome is not None
    ]
    return [runs, gr.Column(visible=bool(runs))]


def _presets() -> list[tuple[str, str]]:
    return [
        (f"{name} (needs torchvision)" if needs_torchvision(settings) else name, name)
        for name, settings in PRESETS.items()
    ]
