"""The page of ``fastnst ui``, in Gradio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from fastnst.errors import FastNSTError
from fastnst.settings.config import combine, read_config
from fastnst.settings.presets import PRESETS, needs_torchvision
from fastnst.ui import film_wish
from fastnst.ui.boxes import (
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
    NAMES,
    checked,
    control,
    from_controls,
    to_controls,
)
from fastnst.ui.film_tab import FilmTab, describe, from_film_controls, to_film_controls
from fastnst.ui.film_wish import FilmWish
from fastnst.ui.machine import kept_by
from fastnst.ui.picture_wish import PictureWish
from fastnst.ui.sheet_tab import SheetTab, from_sheet_controls, to_sheet_controls
from fastnst.ui.sheet_wish import SheetWish
from fastnst.ui.sight import NOTHING, Screen, Sight, look, show_ended
from fastnst.ui.studio import Studio, Visitor
from fastnst.ui.wish import Wish

REFRESH = 0.5  # seconds between two looks at a run


def studio_page(studio: Studio) -> Any:
    """The page of ``fastnst ui``: a Gradio ``Blocks``."""
    no_films = film_wish.unavailable_reason()
    with gr.Blocks(title="fastnst", analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown("# fastnst\nNeural style transfer by optimisation (Gatys, Ecker and Bethge).")
        token = gr.BrowserState(None, storage_key="fastnst-visitor")
        seen = gr.State(NOTHING)
        kind = gr.State(PictureWish.kind)
        timer = gr.Timer(REFRESH, active=False)
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                with gr.Tabs(elem_id="kinds") as tabs:
                    with gr.Tab("A picture", id=PictureWish.kind) as picture_tab:
                        content = picture_box("Content picture", "content")
                        scenes = sample_strip("content", "Built-in contents: click to take one")
                    with gr.Tab("A film", id=FilmWish.kind) as film_tab:
                        film = FilmTab(no_films, studio.limits)
                    with gr.Tab("A sheet", id=SheetWish.kind) as sheet_tab:
                        sheet = SheetTab()
                styles = picture_boxes("Style pictures, one or more", "styles")
                paintings = sample_strip("style", "Built-in styles: click to add one")
            with gr.Column(scale=1, min_width=320):
                preset = gr.Dropdown(_presets(), value=None, label="Preset", elem_id="preset",
                                     info="Sets all below but the machine.")  # fmt: skip
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
                screen = Screen()
                with gr.Column(visible=False, elem_id="session") as session:
                    runs = strip("Runs of this session", "runs", columns=6)

        settings = list(controls.values())
        buttons = [start, stop, resume]
        shown = screen.parts
        everything = [*shown, runs, session, *buttons, timer, seen]
        # What a run is asked for with: which tab is open, and what the boxes hold.
        boxes = [content, styles, kind, film.clip, sheet.content]
        of_tabs = [*film.controls, *sheet.controls]

        def ready(content: Any, styles: Any, kind: Any, clip: Any, of_sheet: Any) -> bool:
            """Whether all is chosen that a run needs."""
            given = {PictureWish.kind: content, FilmWish.kind: clip, SheetWish.kind: of_sheet}
            return bool(given.get(kind)) and bool(styles)

        def can(visitor: Visitor, ready: bool) -> list[Any]:
            """The buttons, each enabled only where it does something."""
            job = visitor.job
            active = job is not None and job.active
            return [
                gr.Button(interactive=ready and not active),
                gr.Button(interactive=active and not (job is not None and job.stopping)),
                gr.Button(interactive=studio.resumable(visitor)),
            ]

        def see(who: Any, before: Sight, ready: bool) -> list[Any]:
            """All that shows a visitor's run, where it differs from what is shown already."""
            visitor = studio.visitor(who)
            job = visitor.job
            if job is None:
                rest = [gr.skip()] * (len(shown) + 2)
                return [*rest, *can(visitor, ready), gr.Timer(active=False), before]
            active = job.active
            now, parts = look(studio, job, before)
            ended = not active and now != before
            earlier = _earlier(visitor) if ended else [gr.skip()] * 2
            return [*parts, *earlier, *can(visitor, ready), gr.Timer(active=active), now]

        def tick(who: Any, before: Sight, *chosen: Any) -> list[Any]:
            return see(who, before, ready(*chosen))

        def arrive(known: Any) -> list[Any]:
            who = studio.admit(known)
            visitor = studio.visitor(who)
            values = [gr.skip()] * len(settings)
            tab: list[Any] = [gr.skip()] * (2 + len(of_tabs))
            if visitor.job is not None:
                wish = visitor.job.wish
                values = to_controls(wish.settings)
                tab[:2] = gr.Tabs(selected=wish.kind), wish.kind
                if wish.film is not None:
                    tab[2 : 2 + len(film.controls)] = to_film_controls(*wish.film)
                if wish.varied:
                    tab[2 + len(film.controls) :] = to_sheet_controls(wish.varied)
            rest = see(who, NOTHING, False)
            rest[len(shown) : len(shown) + 2] = _earlier(visitor)
            return [who, *values, *rest, *tab]

        def begin(
            who: Any, content: Any, styles: Any, kind: Any, clip: Any, of_sheet: Any, mask: Any,
            masks: Any, *values: Any,
        ) -> list[Any]:  # fmt: skip
            of_run, rest_of_tabs = values[: len(settings)], values[len(settings) :]
            of_film = rest_of_tabs[: len(film.controls)]
            varied = rest_of_tabs[len(film.controls) :]
            with _refusals():
                rest = (
                    paths(styles),
                    from_controls(of_run, studio.settings),
                    mask,
                    paths(masks),
                )
                wish: Wish
                if kind == FilmWish.kind:
                    wish = FilmWish(clip, *rest, *from_film_controls(of_film))
                elif kind == SheetWish.kind:
                    found, own = from_sheet_controls(varied), studio.settings
                    wish = SheetWish(of_sheet, *rest[:2], found, own, *rest[2:])
                else:
                    wish = PictureWish(content, *rest)
                studio.start(who, wish)
            return see(who, NOTHING, True)

        def go_on(who: Any, *chosen: Any) -> list[Any]:
            with _refusals():
                studio.resume(who)
            return see(who, NOTHING, ready(*chosen))

        def halt(who: Any, before: Sight, *chosen: Any) -> list[Any]:
            studio.stop(who)
            return see(who, before, ready(*chosen))

        def refresh(who: Any, *chosen: Any) -> list[Any]:
            return can(studio.visitor(who), ready(*chosen))

        def take_preset(name: Any) -> list[Any]:
            if name not in PRESETS:
                return [gr.skip()] * len(settings)
            values = to_controls(studio.limits.within(PRESETS[name]))
            kept = kept_by(studio.settings)
            return [
                gr.skip() if name in kept else value
                for name, value in zip(NAMES, values, strict=True)
            ]

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
                return [gr.skip()] * len(shown)
            return show_ended(finished[index])

        free: dict[str, Any] = {"concurrency_limit": 16, "show_progress": "hidden"}
        page.load(
            arrive, token, [token, *settings, *everything, tabs, kind, *of_tabs],
            api_name="arrive", **free,
        )  # fmt: skip
        timer.tick(tick, [token, seen, *boxes], everything, api_name="look", **free)
        start.click(
            begin, [token, *boxes, content_mask, style_masks, *settings, *of_tabs],
            everything, api_name="start", **free,
        )  # fmt: skip
        resume.click(go_on, [token, *boxes], everything, api_name="resume", **free)
        stop.click(halt, [token, seen, *boxes], everything, api_name="stop", **free)
        recheck: dict[str, Any] = {
            "fn": refresh, "inputs": [token, *boxes], "outputs": buttons,
            "api_name": False, "trigger_mode": "always_last", **free,
        }  # fmt: skip
        gr.on([content.change, styles.change, sheet.content.change], **recheck)
        film.clip.change(
            lambda path: describe(path, studio.limits),
            film.clip,
            film.about,
            api_name=False,
            **free,
        ).then(**recheck)
        picture_tab.select(lambda: PictureWish.kind, None, kind, api_name=False).then(**recheck)
        film_tab.select(lambda: FilmWish.kind, None, kind, api_name=False).then(**recheck)
        sheet_tab.select(
            lambda given, own: (SheetWish.kind, own or given),  # the picture that is chosen already
            [content, sheet.content],
            [kind, sheet.content],
            api_name=False,
        ).then(**recheck)
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
        if isinstance(error, FastNSTError):
            text = str(error).replace("--", "")  # the controls have the names of the options
            if self.path is not None:
                text = text.replace(str(self.path), self.path.name)
            raise gr.Error(text, print_exception=False) from error


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
