"""What the page shows of a run: HTML with the picture inside, a table for the curves, a line of text."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from typing import Any

from fastnst.images import Pixels, encode, to_pil
from fastnst.result import Losses, Result
from fastnst.ui.jobs import Frame

POINTS = 150  # of a curve, at most


def picture(pixels: Pixels, caption: str) -> str:
    """An ``<img>`` that carries its picture."""
    buffer = io.BytesIO()
    to_pil(pixels).save(buffer, "WEBP", quality=90)
    return (
        f'<img id="picture" src="data:image/webp;base64,{_base64(buffer.getvalue())}" '
        f'alt="{html.escape(caption)}" style="width:100%;image-rendering:auto">'
    )


def download(result: Result) -> str:
    """A link that carries the PNG of a result, with the record of the run in it."""
    data = encode(result.pixels, "PNG", metadata={"fastnst": json.dumps(result.to_dict())})
    return (
        '<a id="download" class="lg secondary" download="fastnst.png" '
        f'href="data:image/png;base64,{_base64(data)}">Download the PNG '
        "(with its settings inside)</a>"
    )


def curves(history: tuple[Losses, ...]) -> Any:
    """A pandas table for a plot: evaluation, loss (unweighted terms, and the total), term."""
    import pandas as pd

    stride = max(1, len(history) // POINTS)
    rows = [
        (index + 1, value, term)
        for index, losses in list(enumerate(history))[::stride]
        for term, value in _terms(losses).items()
    ]
    return pd.DataFrame(rows, columns=["evaluation", "log10 of the loss", "term"])


def caption(frame: Frame) -> str:
    """Where a run is, in a line."""
    rate = frame.iteration / frame.seconds if frame.seconds else 0.0
    left = (frame.iterations - frame.iteration) / rate if rate else 0.0
    return (
        f"iteration {frame.iteration} of {frame.iterations}, loss {frame.history[-1].total:.4g}, "
        f"{rate:.1f} iterations/s, {left:.0f} s left"
    )


def summary(result: Result, stopped: bool) -> str:
    """How a run ended, in a line."""
    height, width, _ = result.pixels.shape
    return (
        f"{'stopped' if stopped else 'done'}: {width}×{height}, {result.iterations} iterations in "
        f"{result.seconds:.1f} s, loss {result.losses.total:.4g}, engine {result.engine} on "
        f"{result.device}"
    )


def _terms(losses: Losses) -> dict[str, float]:
    return {term: math.log10(value) for term, value in losses.to_row().items() if value > 0}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
