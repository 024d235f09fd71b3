"""Losses and pictures in one figure (extra ``plot``: matplotlib), whatever they are of."""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnst import files
from fastnst.errors import BackendUnavailable, InvalidInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

SUFFIXES = (".png", ".pdf", ".svg")
SPACE = 4 << 20  # bytes that a figure may take
WINDOW = 10  # evaluations over which a gain is shown
LAST_PART = 0.2  # of the evaluations: what they still gain says whether a run has converged


def check(path: Path) -> None:
    """Make sure, before the work starts, that a plot can be written.

    Raises:
        InvalidInput: for an unknown format, or a folder that cannot be written to.
        BackendUnavailable: without matplotlib.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInput(f"plot {path}: expected a name ending in {', '.join(SUFFIXES)}")
    files.check_writable(path, "plot", SPACE, _is_figure, "PNG, PDF or SVG file")
    _matplotlib()


def _is_figure(head: bytes) -> bool:
    return head.startswith((b"\x89PNG", b"%PDF")) or b"<svg" in head


def plot(
    totals: Sequence[float],
    parts: Mapping[str, Sequence[float]],
    pictures: Mapping[str, Image.Image],
    title: str,
    path: Path | None = None,
) -> Figure:
    """Draw the losses over the evaluations, and pictures below them.

    The left-hand axes show the total and what each part adds to it, on a logarithmic scale. The
    right-hand axes show by how much the last ten evaluations lowered the lowest total: that falls
    as a run converges, and breaks off where nothing is gained any more. The title says what the
    last fifth of the evaluations still gained.

    Args:
        totals: The total loss at each evaluation.
        parts: What each part of the objective adds to the total at each evaluation, by its name.
        pictures: The pictures to show, by their titles.
        title: The beginning of the figure's title.
        path: The file to write the figure to, a PNG, PDF or SVG file; None: no file.

    Raises:
        BackendUnavailable: without matplotlib.
        InvalidInput: for an unknown format, or a folder that cannot be written to.
        OutputFailed: if the file cannot be written.
    """
    if path is not None:
        check(path)
    figure = _matplotlib()(figsize=(13, 8.5), layout="constrained")
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.15, 1))[:, 0]
    left, right = upper.subplots(1, 2, width_ratios=(2, 1))
    _draw_parts(left, totals, parts)
    _draw_gain(right, totals)
    upper.suptitle(title + _last_gain(totals), fontsize=12)
    for axes, (name, image) in zip(
        lower.subplots(1, len(pictures), squeeze=False)[0], pictures.items(), strict=True
    ):
        axes.imshow(image)
        axes.set_title(name, fontsize=10)
        axes.set_axis_off()
    if path is not None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=path.suffix[1:].lower(), dpi=110)
        data = buffer.getvalue()
        files.write_or_rescue(path, lambda name: files.write(name, data))
    figure._repr_png_ = functools.partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _png(figure: Figure) -> bytes:
    """A figure as notebooks show it, whether or not pyplot is in use there."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


def _draw_parts(axes: Any, totals: Sequence[float], parts: Mapping[str, Sequence[float]]) -> None:
    evaluations = range(1, len(totals) + 1)
    axes.plot(evaluations, totals, "k", lw=2, label="total")
    for name, values in parts.items():
        style = "--" if name.startswith("content") else ":" if name.startswith("total") else "-"
        axes.plot(evaluations, values, style, lw=1.2, label=name)
    axes.set(xlabel="evaluation", ylabel="part of the loss")
    if any(value > 0 for values in (totals, *parts.values()) for value in values):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)


def _draw_gain(axes: Any, totals: Sequence[float]) -> None:
    from matplotlib.ticker import LogFormatter

    best = list(itertools.accumulate(totals, min))
    ends = range(WINDOW, len(best))
    gains = [1 - best[k] / best[k - WINDOW] if best[k - WINDOW] > 0 else 0.0 for k in ends]
    axes.plot([k + 1 for k in ends], [100 * g if g > 0 else float("nan") for g in gains], "k")
    axes.set(xlabel="evaluation", ylabel=f"gain of the last {WINDOW} evaluations, %")
    axes.set(yscale="log", xlim=(1, max(2, len(best))))
    axes.yaxis.set_major_formatter(LogFormatter())  # 0.1, 1, 10
    axes.yaxis.set_minor_formatter(LogFormatter())
    axes.grid(alpha=0.3)


def _last_gain(totals: Sequence[float]) -> str:
    """What the last fifth of the evaluations gained, in words; nothing if that means nothing."""
    last = max(1, round(LAST_PART * len(totals)))
    if len(totals) < 2 or min(totals[:-last]) <= 0:
        return ""
    gain = 1 - min(min(totals), min(totals[:-last])) / min(totals[:-last])
    return f"; the last {last} evaluations lowered the loss by {gain:.2%}"


def _matplotlib() -> type[Figure]:
    """matplotlib's Figure, without pyplot: no window and no global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendUnavailable(
            "plots need matplotlib; install it with: pip install matplotlib"
        ) from error
    except ValueError as error:  # of what MPLBACKEND or a matplotlibrc says
        reason = str(error).partition(";")[0]
        raise BackendUnavailable(f"matplotlib cannot be loaded: {reason}") from error
    return Figure
