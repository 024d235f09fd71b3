"""The result of what a run has done so far."""

from __future__ import annotations

from PIL import Image

from fastnst.run import gathering
from fastnst.run.finish import finished
from fastnst.run.record import peak_bytes
from fastnst.run.recorder import Recorder
from fastnst.run.result import Result
from fastnst.run.shared_rows import SharedRows


def outcome(recorder: Recorder) -> Result | None:
    """The result with the best picture so far; None before the first evaluation.

    Where several ranks share the picture they all call this together, and rank 0 has all of it; the
    result of any other has the rows that it owns. Where it stays with them by band, that of rank 0
    has its own rows too, and asks the others for theirs.
    """
    best, engine, prepared = recorder.best, recorder.engine, recorder.prepared
    if best is None or engine is None:
        return None
    here, share = recorder.here, recorder.share
    rows = None
    if recorder.by_band and share is not None and share.communication.ranks > 1:
        rows = SharedRows(best, share, recorder.colours)
        pixels = finished(best, rows.own_colours)
    else:
        pixels = finished(*gathering.whole(best, share, recorder.colours))
    done = recorder.scales if here is None else (*recorder.scales, here)
    return Result(
        pixels,
        recorder.history[recorder.best_row],
        tuple(recorder.history),
        sum(scale.iterations for scale in done),
        sum(scale.evaluations for scale in done),
        recorder.seconds(),
        engine.name,
        str(prepared.device),
        engine.precision,
        prepared.asked,
        prepared.settings,
        {"name": prepared.weights.name, "sha256": prepared.weights.sha256},
        done,
        {k: Image.fromarray(picture.numpy()) for k, picture in recorder.snapshots.items()},
        engine.provider,
        engine.tf32,
        recorder.strips,
        peak_bytes(prepared.device),
        rows,
    )
