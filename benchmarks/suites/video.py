"""``video``: a stylised film beside its frames stylised one by one, on a scene whose flow is known.

The warping error is the mean squared difference of what two neighbouring frames both see, along the
true flow (``fastnst.samples.moving``): what a viewer sees flicker. The flow that the films are made
with is OpenCV's, as in earnest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from itertools import pairwise
from statistics import mean
from typing import Any

import torch

from benchmarks import tables
from benchmarks.options import Options
from benchmarks.rows import Row, one_line, summary
from benchmarks.suite import Case, Suite
from fastnst import FilmFrame, FilmOptions, make_settings, samples
from fastnst.errors import FastNSTError
from fastnst.samples.moving import MovingScene
from fastnst.video.flow import Frame, dis_flow
from fastnst.video.painter import Painter
from fastnst.video.stylise import stylise
from fastnst.video.warp import warp

BASELINE = "each frame alone, from noise"
LIKE_FIRST = "each frame alone, from the start of a film's first frame"
WARPED = "from the warped last frame, without the term"
OURS = "fastnst video"
NOISE_WARPED = "from noise and the warped last frame, without the term"
NOISE = "fastnst video --init noise"
HELD = (60.0, 100.0)  # temporal weights of films that begin with noise, beside the usual one
STYLE = "swirl"
STATIC = "static"
_dis = cache(dis_flow)
COLUMNS = {
    "iterations": ("iterations a frame", ".1f"),
    "warping_error": ("warping error", ".2e"),
    "style": ("style loss", ".3f"),
    "total": ("loss", ".2f"),
}


def cases(options: Options) -> list[Case]:
    sizes = options.choose_sizes(full=(256,), quick=(64,))
    frames = 3 if options.quick else options.evaluations or 6
    moving = [Case(f"{frames} frames, {STYLE}", size, details={"frames": frames}) for size in sizes]
    still = 3 if options.quick else 30
    static = [Case(f"{still} {STATIC} frames", min(sizes), details={"frames": still})]
    return moving + static


def measure(case: Case, options: Options) -> Iterator[Row]:
    assert case.details is not None
    count = case.details["frames"]
    scene = MovingScene(case.size, case.size * 3 // 4)
    settings = make_settings("fast", {"size": 0, "device": options.device})
    if options.quick:
        settings = replace(settings, iterations=10)
    row = partial(Row, "video", case.title, device=options.device, dtype="fp32", size=case.size)
    if STATIC in case.title:
        frame = _frames(scene, 1)[0]
        still = [replace(frame, index=k, time=Fraction(k, 25)) for k in range(count)]
        yield _row(row, OURS, _film(still, settings, FilmOptions()), None)
        return
    frames = _frames(scene, count)
    noise = replace(settings, init="noise")
    arms: dict[str, Callable[[], list[FilmFrame]]] = {
        BASELINE: lambda: _alone(frames, noise),
        LIKE_FIRST: lambda: _alone(frames, settings),
        WARPED: lambda: _film(frames, settings, FilmOptions(temporal_weight=0.0)),
        OURS: lambda: _film(frames, settings, FilmOptions()),
        NOISE_WARPED: lambda: _film(frames, noise, FilmOptions(temporal_weight=0.0)),
    }
    for weight in HELD:
        held = partial(_film, frames, noise, FilmOptions(temporal_weight=weight))
        arms[f"{NOISE} --temporal-weight {weight:g}"] = held
    arms[NOISE] = lambda: _film(frames, noise, FilmOptions())
    for name, make in arms.items():
        if not options.wants(name):
            continue
        try:
            made = make()
        except FastNSTError as error:  # without OpenCV frames made alone can be had all the same
            yield row(implementation=name, error=one_line(error))
        else:
            yield _row(row, name, made, scene)


def _frames(scene: MovingScene, count: int) -> list[Frame]:
    return [Frame(k, Fraction(k, 25), scene.frame(k)) for k in range(count)]


def _painter(settings: Any, options: FilmOptions) -> Painter:
    return Painter(samples.load(STYLE), settings, options, _flow)


def _flow(first: Frame, second: Frame) -> torch.Tensor | None:
    """OpenCV's, which is not needed where nothing moves."""
    return _dis()(first, second)


def _film(frames: Sequence[Frame], settings: Any, options: FilmOptions) -> list[FilmFrame]:
    return list(stylise(frames, _painter(settings, options)))


def _alone(frames: Sequence[Frame], settings: Any) -> list[FilmFrame]:
    painter = _painter(settings, FilmOptions())
    return [painter.paint(frame, (), None) for frame in frames]


def _row(row: partial[Row], name: str, made: Sequence[FilmFrame], scene: MovingScene | None) -> Row:
    later = made[1:]
    styles = [sum(f.result.losses.style.values()) / len(f.result.losses.style) for f in made]
    brightness = [float(frame.pixels.mean()) for frame in made]
    extra = {
        "iterations": round(mean(frame.result.iterations for frame in later), 1),
        "warping_error": None if scene is None else warping_error(made, scene),
        "style": mean(styles[1:]),
        "total": mean(_own(frame) for frame in later),
        "first_seconds": made[0].seconds,
        "brightness_change": brightness[-1] / brightness[0] - 1,
        "style_change": styles[-1] / styles[0] - 1,
    }
    seconds = [frame.seconds for frame in later]
    return row(implementation=name, **summary(seconds), extra=extra)


def _own(frame: FilmFrame) -> float:
    """The loss without the temporal term."""
    losses, settings = frame.result.losses, frame.result.settings
    content, style = settings.content_weights(), settings.layer_weights()
    return settings.content_weight * sum(
        content[name] * loss for name, loss in losses.content.items()
    ) + settings.style_weight * sum(style[name] * loss for name, loss in losses.style.items())


def warping_error(made: Sequence[FilmFrame], scene: MovingScene) -> float:
    """The mean squared difference of neighbours over what both see, along the true flow."""
    found = []
    for before, now in pairwise(made):
        pair = now.frame.index, before.frame.index
        seen = torch.from_numpy(scene.visible(*pair))
        warped = warp(before.raw, torch.from_numpy(scene.flow(*pair)), "spline")
        found.append(float((now.raw - warped)[0].square().mean(0)[seen].mean()))
    return mean(found)


SUITE = Suite(
    "video",
    "A film whose frames start from the last one and are held to it, against frames made alone.",
    cases,
    measure,
    baseline=BASELINE,
    table=partial(tables.plain, columns=COLUMNS),
)
