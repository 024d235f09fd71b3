"""The course of a run in one figure (extra ``plot``: matplotlib)."""

from __future__ import annotations

import io
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnst import files
from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.images.pixels import to_pil

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnst.run.result import Result

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
    _matplotlib()
    files.check_writable(path, "plot", SPACE, _is_figure, "PNG, PDF or SVG file")


def _is_figure(head: bytes) -> bool:
    return head.startswith((b"\x89PNG", b"%PDF")) or b"<svg" in head


def plot(result: Result, path: str | os.PathLike[str] | None = None) -> Figure:
    """The losses over the evaluations, and the pictures at the start, in the middle and at the end.

    The left-hand axes show what each part adds to the total loss, on a logarithmic scale: α c_l,
    β w_l g_l and τ tv. The right-hand axes show by how much the last ten evaluations lowered the
    lowest loss: it falls as the run converges, and breaks off where nothing is gained any more. The
    title says what the last fifth of the evaluations still gained.

    Args:
        result: Of a run.
        path: Where to write the figure, a PNG, PDF or SVG file; None: nowhere.

    Raises:
        BackendUnavailable: without matplotlib.
        InvalidInput: for an unknown format, or a folder that cannot be written to.
        OutputFailed: if the file cannot be written.
    """
    if path is not None:
        check(Path(path))
    figure = _matplotlib()(figsize=(13, 8.5), layout="constrained")
    curves, pictures = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.15, 1))[:, 0]
    left, right = curves.subplots(1, 2, width_ratios=(2, 1))
    _draw_parts(left, result)
    _draw_gain(right, result)
    curves.suptitle(_verdict(result), fontsize=12)
    shown = {f"after {k} iterations": v for k, v in sorted(result.snapshots.items())}
    if result.snapshots.get(0) is not None:
        shown = {"start": shown.pop("after 0 iterations"), **shown}
    best = min(range(len(result.history)), key=lambda k: result.history[k].total)
    shown[f"result: evaluation {best + 1}, loss {result.losses.total:.4g}"] = to_pil(result.pixels)
    for axes, (title, image) in zip(
        pictures.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True
    ):
        axes.imshow(image)
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    if path is not None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=Path(path).suffix[1:].lower(), dpi=110)
        files.write_or_rescue(Path(path), buffer.getvalue())
    return figure


def contributions(result: Result) -> dict[str, list[float]]:
    """What each part of the objective adds to the total, by evaluation.

    Returns:
        ``{"content relu4_2": [α v_l c_l, …], "style relu1_1": [β w_l g_l, …], "tv": [τ tv, …]}``.
    """
    settings = result.settings
    weights, shares = settings.layer_weights(), settings.content_weights()
    first = result.history[0]
    parts = {
        f"content {name}": [
            settings.content_weight * shares[name] * x.content[name] for x in result.history
        ]
        for name in first.content
    }
    for name in first.style:
        factor = settings.style_weight * weights[name]
        parts[f"style {name}"] = [factor * x.style[name] for x in result.history]
    if settings.tv_weight:
        parts["total variation"] = [settings.tv_weight * x.tv for x in result.history]
    return parts


def _draw_parts(axes: Any, result: Result) -> None:
    evaluations = range(1, len(result.history) + 1)
    axes.plot(evaluations, [x.total for x in result.history], "k", lw=2, label="total")
    for name, values in contributions(result).items():
        style = "--" if name.startswith("content") else ":" if name.startswith("total") else "-"
        axes.plot(evaluations, values, style, lw=1.2, label=name)
    axes.set(xlabel="evaluation", ylabel="part of the loss", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)


def _draw_gain(axes: Any, result: Result) -> None:
    from matplotlib.ticker import LogFormatter

    best = list(itertools.accumulate((losses.total for losses in result.history), min))
    ends = range(WINDOW, len(best))
    gains = [1 - best[k] / best[k - WINDOW] if best[k - WINDOW] > 0 else 0.0 for k in ends]
    axes.plot([k + 1 for k in ends], [100 * g if g > 0 else float("nan") for g in gains], "k")
    axes.set(xlabel="evaluation", ylabel=f"gain of the last {WINDOW} evaluations, %")
    axes.set(yscale="log", xlim=(1, max(2, len(best))))
    axes.yaxis.set_major_formatter(LogFormatter())  # 0.1, 1, 10
    axes.yaxis.set_minor_formatter(LogFormatter())
    axes.grid(alpha=0.3)


def _verdict(result: Result) -> str:
    height, width, _ = result.pixels.shape
    text = f"{width}×{height}, {result.iterations} iterations in {result.seconds:.1f} s"
    totals = [losses.total for losses in result.history]
    last = max(1, round(LAST_PART * len(totals)))
    if len(totals) < 2 or min(totals[:-last]) <= 0:
        return text
    gain = 1 - min(min(totals), min(totals[:-last])) / min(totals[:-last])
    return f"{text}; the last {last} evaluations lowered the loss by {gain:.2%}"


def _matplotlib() -> type[Figure]:
    """matplotlib's Figure, without pyplot: no window and no global state."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendUnavailable(
            "plots need matplotlib; install it with: pip install matplotlib"
        ) from error
    return Figure
