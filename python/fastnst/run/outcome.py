"""The result of what a run has done so far."""

from __future__ import annotations

from PIL import Image

from fastnst.run.record import peak_bytes
from fastnst.run.recorder import Recorder
from fastnst.run.result import Result
from fastnst.run.step import finished


def outcome(recorder: Recorder) -> Result | None:
    """The result with the best picture so far; None before the first evaluation.

    Where several ranks share the picture they all call this together, and rank 0 has all of it; the
    result of any other has the rows that it owns.
    """
    best, engine, prepared = recorder.best, recorder.engine, recorder.prepared
    if best is None or engine is None:
        return None
    here = recorder.here
    done = recorder.scales if here is None else (*recorder.scales, here)
    return Result(
        finished(*recorder.picture(best)),
        recorder.history[recorder.best_row],
        tuple(recorder.history),
        sum(scale.iterations for scale in done),
        sum(scale.evaluations for scale in done),
        recorder.seconds(),
        engine.name,
        str(best.device),
        engine.precision,
        prepared.settings,
        {"name": prepared.weights.name, "sha256": prepared.weights.sha256},
        done,
        {k: Image.fromarray(picture.numpy()) for k, picture in recorder.snapshots.items()},
        engine.provider,
        engine.tf32,
        recorder.strips,
        peak_bytes(best.device),
    )
