"""One call from the pictures to the result: prepare, solve at each scale, record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from fastnst.cache import Cache
from fastnst.devices import check_process, model, undisturbed
from fastnst.errors import InvalidInput, NonFiniteLoss
from fastnst.evaluation import Engine
from fastnst.images.decode import Picture
from fastnst.images.pixels import resize, to_pixels, to_tensor
from fastnst.inputs.pictures import Styles
from fastnst.run import memory, pieces
from fastnst.run.checkpoint import Checkpoints, load_checkpoint
from fastnst.run.checkpoint_checks import check_fits
from fastnst.run.checkpoint_state import Checkpoint
from fastnst.run.checkpoint_writer import CheckpointWriter
from fastnst.run.identity import Identity
from fastnst.run.prepare import Preparation, prepare
from fastnst.run.recorder import Recorder
from fastnst.run.result import Diverged, Interrupted, Result, Step
from fastnst.run.solve import solve
from fastnst.settings.settings import Settings
from fastnst.solvers.iterate import Iterate
from fastnst.strips.geometry import Grid


@undisturbed()
def run(
    content: Picture,
    style: Styles,
    settings: Settings,
    callback: Callable[[Step], None] | None = None,
    *,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
    checkpoints: Checkpoints | None = None,
    resume: Path | None = None,
    cache: Cache | None = None,
    memory_limit: int | None = None,
) -> Result:
    """Do what ``stylize`` does, with a ready ``Settings`` object.

    Args:
        content: As for ``stylize``.
        style: As for ``stylize``.
        settings: The settings of the run.
        callback: As for ``stylize``.
        content_mask: As for ``stylize``.
        style_masks: As for ``stylize``.
        checkpoints: Where to save the state of the run, and how often.
        resume: A checkpoint to go on from.
        cache: What earlier runs made and this one may use again.
        memory_limit: Bytes that the run may take; None: what is free. A picture that does not fit
            is computed in strips.

    Raises:
        InvalidInput: as for ``stylize``, and so are the other errors.
    """
    check_process()
    prepared = prepare(content, style, settings, content_mask, style_masks, cache, memory_limit)
    if checkpoints is not None:
        checkpoints.check(prepared.width * prepared.height, settings)
    saved = None if resume is None else load_checkpoint(resume)
    with memory.enough(prepared.width, prepared.height, settings, prepared.device):
        recorder = _run_scales(prepared, callback, checkpoints, saved, resume)
    result = recorder.result()
    assert result is not None  # a solver yields the start at least
    return result


def _run_scales(
    prepared: Preparation,
    callback: Callable[[Step], None] | None,
    checkpoints: Checkpoints | None,
    saved: Checkpoint | None,
    resume: Path | None,
) -> Recorder:
    """Solve at each scale, from where a checkpoint stopped.

    Where the memory runs out, all that this function holds is freed: so the caller holds none of
    it, neither engine nor recorder.
    """
    recorder = Recorder(prepared, callback)
    settings = prepared.settings
    first = 0 if saved is None else min(len(saved.scales), len(prepared.schedule) - 1)
    for scale in prepared.schedule[first:]:
        pictures = prepared.pictures(scale)
        if saved is None:
            grid = prepared.grid(pictures)
        else:  # results depend on it, so a run goes on with the one that it began with
            text = saved.identity.made_from.get("strips")
            height, width = pictures.content.shape[-2:]
            grid = pieces.restored(text, height, width, settings, prepared.device)
        engine = prepared.engine(pictures, grid=grid)
        identity = _identity(prepared, engine, grid)
        start = pictures.start
        if recorder.best is not None:
            start = _enlarged(recorder.best, like=start)
        state = None
        if saved is not None and resume is not None:
            saved.identity.check(identity, resume)
            _check_fits(saved, prepared, start, resume)
            recorder.restore(saved, engine, pictures.colours)
            engine.resume(recorder.totals())
            state = saved.solver
        writer = None
        if checkpoints is not None:
            done = 0 if state is None else state.numbers["iteration"]
            writer = CheckpointWriter(checkpoints, identity, recorder, scale.iterations, done)
        recorder.begin_scale()
        stepwise = writer is not None
        iterates = solve(engine, start, settings, scale.iterations, stepwise=stepwise, resume=state)
        _follow(iterates, recorder, writer, engine, pictures.colours)
        recorder.end_scale()
        saved = None
    return recorder


def _follow(
    iterates: Iterator[Iterate],
    recorder: Recorder,
    writer: CheckpointWriter | None,
    engine: Engine,
    colours: Tensor | None,
) -> None:
    """Record each iterate, and turn the ways in which a run ends early into errors with a result.

    Raises:
        Interrupted: on Ctrl-C, once there is a picture; its state is saved first.
        Diverged: if the loss is not finite.
    """
    last: Iterate | None = None
    at_rest = False  # whether the solver waits between two iterates, so that its state can be saved
    try:
        for iterate in iterates:
            last, at_rest = iterate, True
            recorder.note(iterate, engine, colours)
            if writer is not None:
                writer.note(iterate)
            at_rest = False
    except KeyboardInterrupt as interrupt:
        if writer is not None and last is not None and at_rest and not last.averaged:
            writer.write(last)
        so_far = recorder.result()
        if so_far is None:
            raise
        raise Interrupted(so_far) from interrupt
    except NonFiniteLoss as error:
        raise Diverged(str(error), recorder.result()) from error


def _check_fits(saved: Checkpoint, prepared: Preparation, start: Tensor, path: Path) -> None:
    try:
        check_fits(saved, prepared.settings, prepared.schedule, start)
    except InvalidInput as error:
        raise InvalidInput(f"checkpoint {path} cannot be used: {error}") from error


def _identity(prepared: Preparation, engine: Engine, grid: Grid | None) -> Identity:
    made_from = pieces.name(grid) | {
        "file of weights": prepared.weights.sha256,
        "engine": engine.name,
        "device": model(prepared.device),
        "precision": engine.precision,
    }
    return Identity.of(prepared.settings, prepared.sources.digests() | made_from)


def _enlarged(image: Tensor, like: Tensor) -> Tensor:
    """A picture ``(1, 3, h, w)`` at the size and on the device of another."""
    return to_tensor(resize(to_pixels(image), like.shape[3], like.shape[2])).to(like.device)
