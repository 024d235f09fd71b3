"""What the page shows of a run: HTML with the picture and the curves inside, a line of text."""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
import math
from collections.abc import Sequence

from PIL import Image

from fastnst.images.encode import encode_8bit
from fastnst.images.pixels import Pixels, scaled_size, to_pil
from fastnst.run.losses import Losses
from fastnst.run.result import Result
from fastnst.sheet.sheet import Sheet
from fastnst.ui.watch import Frame, Watch

LONGEST = 2048  # pixels, long side of a picture in the page; files to download are whole
POINTS = 150  # of a curve, at most
THUMBNAIL = 160  # pixels, long side
COLOURS = ("#888888", "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2")


def picture(made: Pixels | Image.Image, caption: str) -> str:
    """An ``<img>`` that carries its picture."""
    image = made if isinstance(made, Image.Image) else to_pil(made)
    return (
        f'<img id="picture" src="{data_url(image)}" '
        f'alt="{html.escape(caption)}" style="width:100%;max-height:80vh;object-fit:contain">'
    )


def film(frames: Sequence[Pixels], finished: int) -> str:
    """The last finished frames of a film as a row of pictures, the newest last.

    Args:
        frames: Those that are shown.
        finished: How many are finished in all.
    """
    first = finished - len(frames) + 1
    pictures = [
        f'<img src="{data_url(to_pil(pixels))}" alt="finished frame {number}" '
        'style="height:90px;width:auto">'
        for number, pixels in enumerate(frames, first)
    ]
    return f'<div style="display:flex;flex-wrap:wrap;gap:4px">{"".join(pictures)}</div>'


def shown_size(width: int, height: int) -> tuple[int, int]:
    """The size at which a picture is shown: reduced to ``LONGEST`` pixels if it is larger."""
    return scaled_size(width, height, LONGEST if max(width, height) > LONGEST else 0)


def data_url(image: Image.Image) -> str:
    """A picture as an address that carries it, reduced to what a page shows."""
    size = shown_size(*image.size)
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90)
    return f"data:image/webp;base64,{_base64(buffer.getvalue())}"


def thumbnail(made: Pixels | Image.Image) -> str:
    """A small picture as an address that carries it."""
    image = made.copy() if isinstance(made, Image.Image) else to_pil(made)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return data_url(image)


def download(made: Result | Sheet) -> str:
    """A link that carries the PNG of a result or a sheet, with the record of the run in it.

    Only that of a result can be loaded as settings, and only of that the link says so.
    """
    data = encode_8bit(made.image, "PNG", {"fastnst": json.dumps(made.to_dict())})
    inside = " (with its settings inside)" if isinstance(made, Result) else " of the sheet"
    return (
        '<a id="download" class="lg secondary" download="fastnst.png" '
        f'href="data:image/png;base64,{_base64(data)}">Download the PNG{inside}</a>'
    )


def curves(history: tuple[Losses, ...]) -> str:
    """An ``<svg>`` with the total loss and each term, unweighted, on a logarithmic scale."""
    stride = max(1, len(history) // POINTS)
    rows = [(k, losses.to_row()) for k, losses in list(enumerate(history, 1))[::stride]]
    logs = {
        name: [(k, math.log10(row[name])) for k, row in rows if row[name] > 0]
        for name in rows[0][1]
    }
    heights = [y for points in logs.values() for _, y in points] or [0.0]
    low, high = math.floor(min(heights)), max(math.floor(min(heights)) + 1, math.ceil(max(heights)))

    def at(k: float, y: float) -> tuple[float, float]:
        across = (k - 1) / max(1, len(history) - 1)
        return 45 + 395 * across, 15 + 240 * (high - y) / (high - low)

    parts = []
    for decade in range(low, high + 1):
        _, y = at(1, decade)
        parts.append(f'<path d="M45 {y:.1f}H440" stroke="currentColor" opacity="0.2"/>')
        parts.append(f'<text x="40" y="{y + 4:.1f}" text-anchor="end">{10.0**decade:g}</text>')
    shown = {name: points for name, points in logs.items() if points}
    for (name, points), colour in zip(shown.items(), itertools.cycle(COLOURS), strict=False):
        line = " ".join("{:.1f},{:.1f}".format(*at(k, y)) for k, y in points)
        width = 2.5 if name == "total" else 1.5
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
        )
    for place, (name, colour) in enumerate(zip(shown, itertools.cycle(COLOURS), strict=False)):
        x, y = 45 + 133 * (place % 3), 300 + 18 * (place // 3)  # below, for narrow screens
        parts.append(f'<path d="M{x} {y - 4}h14" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 19}" y="{y}">{html.escape(name.replace(".", " "))}</text>')
    parts.append(f'<text x="440" y="275" text-anchor="end">evaluation {len(history)}</text>')
    height = 308 + 18 * ((len(shown) - 1) // 3)
    return (
        f'<svg id="curves" viewBox="0 0 450 {height}" role="img" '
        'aria-label="losses over the evaluations" '
        'style="width:100%;max-width:700px;font:12px sans-serif;fill:currentColor">'
        f"{''.join(parts)}</svg>"
    )


def caption(frame: Frame) -> str:
    """Where the optimisation of a picture is, in a line."""
    rate = frame.iteration / frame.seconds if frame.seconds else 0.0
    left = (frame.iterations - frame.iteration) / rate if rate else 0.0
    return f"{_where(frame)}, {rate:.1f} iterations/s, {duration(left)} left"


def progress(watch: Watch, frame: Frame) -> str:
    """Where a run is, in a line; of a film how many frames are finished, and the time left."""
    text = caption(frame)
    if watch.frames is not None or watch.finished:
        text = f"{counted(watch.finished, watch.frames, watch.unit)} finished"
        if watch.pace is not None:
            text += f", {watch.pace:.1f} s a {watch.unit}"
            if watch.frames is not None:
                this = max(0.0, watch.pace - frame.seconds)
                left = this + watch.pace * (watch.frames - watch.finished - 1)
                text += f", {duration(left)} left"
        text += f"; {_where(frame)}"
    return f"stopping; {text}" if watch.stopping else text


def _where(frame: Frame) -> str:
    loss = frame.history[-1].total
    return f"iteration {frame.iteration} of {frame.iterations}, loss {loss:.4g}"


def counted(finished: int, frames: int | None, unit: str = "frame") -> str:
    """``1 frame``; ``2 frames of 3``, where fewer are finished than there will be."""
    text = f"{finished} {unit}{'' if finished == 1 else 's'}"
    return text if frames is None or finished == frames else f"{text} of {frames}"


def duration(seconds: float) -> str:
    """A time as a person would say it: ``45 s``, ``4 min``, ``2 h 5 min``."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def summary(result: Result, state: str) -> str:
    """How a run ended, in a line; ``state`` is ``done``, ``stopped`` or ``failed``."""
    height, width, _ = result.pixels.shape
    return (
        f"{state}: {width}×{height}, {result.iterations} iterations in "
        f"{result.seconds:.1f} s, loss {result.losses.total:.4g}, engine {result.engine} on "
        f"{result.device}"
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
