"""Renders of a pair of pictures in several ways, each judged by what the eye finds in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tifffile
import torch

from benchmarks import appearance, contact_sheet, setups, tables
from benchmarks.appearance import CHANNELS, PERIODS, Floats
from benchmarks.options import PAIRS, Options
from benchmarks.rows import Row, one_line, summary
from benchmarks.suite import Case
from fastnst import Result, Settings, make_settings, stylize
from fastnst.errors import FastNSTError
from fastnst.images.pixels import to_pil, to_pixels
from fastnst.network.weights import load_weights
from fastnst.settings.presets import needs_torchvision

COLUMNS = {
    **{f"finest_{c}": (f"finest {c}", ".2f") for c in CHANNELS},
    "clipped": ("clipped", ".1%"),
    "lattice": ("lattice", ".1f"),
    "lattice_levels": ("lattice, levels", ".2f"),
    "structure": ("structure kept", ".2f"),
    "style_left": ("style left", ".2f"),
    "loss": ("loss", ".3f"),
}
table = partial(tables.plain, columns=COLUMNS)


@dataclass(frozen=True)
class Noise:
    """A start of Gaussian noise around mid-grey.

    Attributes:
        std: Its standard deviation.
        grey: Whether the three colours have the same noise.
    """

    std: float
    grey: bool = False


@dataclass(frozen=True)
class Arm:
    """One way of making a picture.

    Attributes:
        name: The column ``implementation``.
        preset: A preset of fastnst.
        settings: What replaces the preset's settings.
        start: What it starts from; None: what the settings say.
        halved: The first scale has half the size; otherwise the scales are the preset's.
    """

    name: str
    preset: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    start: Noise | None = None
    halved: bool = False


def pairs(options: Options) -> dict[str, tuple[str, str]]:
    """The user's own pairs of pictures, or built-in ones, by what they are called."""
    count = options.pairs or (1 if options.quick else len(PAIRS))
    found: dict[str, tuple[str, str]] = {}
    for pair in options.own_pairs or PAIRS[:count]:
        title, number = _title(*pair), 1
        while title in found:  # other pictures of the same names
            number += 1
            title = f"{_title(*pair)} {number}"
        found[title] = pair
    return found


def cases(options: Options) -> list[Case]:
    """Every pair at every size."""
    sizes = options.choose_sizes(full=(256,), quick=(64,))
    return [Case(title, size) for size in sizes for title in pairs(options)]


def measure(
    suite: str,
    arms: Sequence[Arm],
    case: Case,
    options: Options,
) -> Iterator[Row]:
    """A row for each arm; and a strip of the contact sheet.

    Args:
        suite: The column ``suite``.
        arms: What to render.
        case: One of the names of ``pairs``, and the long side of the pictures in pixels.
        options: Which arms, how many iterations, where to write.
    """
    title, size = case.title, case.size
    content, style = pairs(options)[title]
    loaded = setups.pictures(content, style, size)
    objective = setups.reference(loaded.content, loaded.style)
    photograph, painting = to_pixels(loaded.content), to_pixels(loaded.style)
    own = appearance.power(painting)
    row = partial(Row, suite, title, device=options.device, dtype="fp32", size=size)
    shown = {"content": to_pil(photograph), "painting": to_pil(painting)}
    for arm in arms:
        if not options.wants(arm.name):
            continue
        try:
            result = render(arm, content, style, size, options)
        except Exception as error:  # noqa: BLE001 - becomes the error of a row
            yield row(implementation=arm.name, error=one_line(error))
            continue
        score = setups.score(objective, _tensor(result.pixels))
        extra = {
            **judge(result.pixels, photograph, painting, own),
            "loss": score,
            "iterations": result.iterations,
            "weights": result.settings.weights,
        }
        shown[arm.name] = to_pil(result.pixels)
        yield row(implementation=arm.name, **summary([max(result.seconds, 1e-9)]), extra=extra)
    if options.folder is not None:
        name = f"{suite}-{size}-{_file_name(title)}"
        contact_sheet.write(options.folder, name, f"{title}, {size} px", shown)


def render(arm: Arm, content: str, style: str, size: int, options: Options) -> Result:
    """The picture of an arm."""
    settings = make_settings(arm.preset, {"size": size, "device": options.device, **arm.settings})
    if arm.halved:
        settings = replace(settings, min_size=max(1, size // 2))
    if needs_torchvision(settings) and not _at_hand(settings.weights):
        settings = replace(settings, weights="vgg19")
    limit = options.evaluations or (10 if options.quick else None)
    if limit is not None:
        later = settings.scale_iterations
        settings = replace(
            settings,
            iterations=min(settings.iterations, limit),
            scale_iterations=None if later is None else tuple(min(n, limit) for n in later),
        )
    if arm.start is None:
        return _run(content, style, settings)
    loaded = setups.pictures(content, style, size)
    with TemporaryDirectory(prefix="fastnst-start-") as folder:
        path = Path(folder, "start.tif")
        shape = tuple(loaded.content.shape[-2:])
        tifffile.imwrite(path, noise(arm.start, shape, settings.seed), photometric="rgb")
        return _run(content, style, replace(settings, init=str(path)))


def noise(start: Noise, shape: tuple[int, ...], seed: int) -> Floats:
    """``(H, W, 3)`` float32; in three colours it is what ``init="noise"`` draws for the seed."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn((1, 1 if start.grey else 3, *shape), generator=generator)
    image = (0.5 + start.std * drawn).clamp(0, 1).expand(1, 3, *shape)
    return np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())


def judge(pixels: Floats, photograph: Floats, painting: Floats, own: Floats) -> dict[str, Any]:
    """The figures of a picture; ``own`` is ``appearance.power`` of the painting."""
    relative = appearance.power(pixels) / own.clip(1e-12)
    lattices = appearance.lattices(pixels)
    return {
        **{f"finest_{c}": float(relative[i, -1]) for i, c in enumerate(CHANNELS)},
        "power": {c: [float(x) for x in relative[i]] for i, c in enumerate(CHANNELS)},
        "clipped": appearance.clipped(pixels),
        "clipped_painting": appearance.clipped(painting),
        "lattices": {str(period): lattices.get(period) for period in PERIODS},
        "lattice": max(lattices.values(), default=1.0),
        "lattice_levels": appearance.lattice_amplitude(pixels),
        "lattice_painting": max(appearance.lattices(painting).values(), default=1.0),
        "structure": appearance.structure(pixels, photograph),
        "style_left": appearance.style_left(pixels, photograph, painting),
    }


def summarise(rows: Sequence[Row]) -> Iterator[Row]:
    """The median of each figure of an arm over the pairs of a size."""
    keys = dict.fromkeys((r.suite, r.implementation, r.device, r.size) for r in rows)
    for suite, implementation, device, size in keys:
        mine = [
            r
            for r in rows
            if (r.implementation, r.size) == (implementation, size) and r.error is None
        ]
        if len(mine) < 2:
            continue
        seconds = [r.seconds for r in mine if r.seconds is not None]
        yield Row(
            *(suite, f"median of {len(mine)}", implementation, device, "fp32", size),
            **summary(seconds),
            extra={name: median(r.extra[name] for r in mine) for name in COLUMNS},
        )


@cache
def _at_hand(weights: str) -> bool:
    """Whether torchvision is installed and has the weights, or can download them."""
    try:
        load_weights(weights)
    except FastNSTError:
        return False
    return True


def _run(content: str, style: str, settings: Settings) -> Result:
    return stylize(content, style, progress=False, **settings.to_dict())


def _tensor(pixels: Floats) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]


def _title(content: str, style: str) -> str:
    return " + ".join(Path(x.removeprefix("sample:")).stem for x in (content, style))


def _file_name(title: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in title)


__all__ = ["COLUMNS", "Arm", "Noise", "cases", "measure", "pairs", "render", "summarise", "table"]
