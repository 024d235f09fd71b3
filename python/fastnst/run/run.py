"""One call from the pictures to the result: prepare, solve at each scale, record."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from fastnst.cache import Cache
from fastnst.devices import check_process, model, undisturbed
from fastnst.errors import InvalidInput, NonFiniteLoss
from fastnst.evaluation import Engine
from fastnst.images.decode import Picture
from fastnst.images.large import DecodedRows
from fastnst.inputs.pictures import Styles
from fastnst.run import pieces
from fastnst.run.available import give_back
from fastnst.run.checkpoint import Checkpoints, load_checkpoint
from fastnst.run.checkpoint_checks import check_fits
from fastnst.run.checkpoint_state import Checkpoint
from fastnst.run.checkpoint_writer import CheckpointWriter
from fastnst.run.ending import Diverged, Interrupted
from fastnst.run.exhaustion import enough
from fastnst.run.identity import Identity
from fastnst.run.prepare import Preparation, prepare
from fastnst.run.recorder import Recorder
from fastnst.run.result import Result
from fastnst.run.schedule import Scale
from fastnst.run.solve import solve
from fastnst.run.step import Step
from fastnst.settings.settings import Settings
from fastnst.solvers.iterate import Iterate
from fastnst.solvers.vectors import Placement
from fastnst.strips.geometry import Grid
from fastnst.strips.storage import ScratchStore


@undisturbed()
def run(
    content: Picture | DecodedRows,
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
    scratch: Path | None = None,
    max_megapixels: float | None = None,
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
        scratch: A folder on a disk: what does not fit in strips either is kept in a file there,
            which is gone when the run is. It changes no bit.
        max_megapixels: The most pixels of a picture file to decode, as for ``prepare``.

    Raises:
        InvalidInput: as for ``stylize``, and so are the other errors.
    """
    check_process()
    prepared = prepare(
        *(content, style, settings, content_mask, style_masks, cache, memory_limit, scratch),
        max_megapixels=max_megapixels,
    )
    settings = prepared.settings
    if checkpoints is not None:
        checkpoints.check(prepared.width * prepared.height, settings)
    saved = [] if resume is None else [load_checkpoint(resume)]
    with enough(prepared.width, prepared.height, settings, prepared.device):
        recorder = _run_scales(prepared, callback, checkpoints, saved, resume)
    result = recorder.result()
    assert result is not None  # a solver yields the start at least
    return result


def _run_scales(
    prepared: Preparation,
    callback: Callable[[Step], None] | None,
    checkpoints: Checkpoints | None,
    saved: list[Checkpoint],
    resume: Path | None,
) -> Recorder:
    """Solve at each scale, from where a checkpoint stopped.

    Where the memory runs out, all that this function holds is freed: so the caller holds none of
    it, neither engine nor recorder.
    """
    recorder = Recorder(prepared, callback)
    first = min(len(saved[0].scales), len(prepared.schedule) - 1) if saved else 0
    for scale in prepared.schedule[first:]:
        with contextlib.ExitStack() as stack:
            _run_scale(prepared, scale, recorder, checkpoints, saved, resume, stack)
    return recorder


def _run_scale(
    prepared: Preparation,
    scale: Scale,
    recorder: Recorder,
    checkpoints: Checkpoints | None,
    checkpoint: list[Checkpoint],
    path: Path | None,
    stack: contextlib.ExitStack,
) -> None:
    """Solve at one scale.

    Args:
        prepared: The run.
        scale: The scale.
        recorder: What the run has done so far.
        checkpoints: Where to save the state of the run, and how often.
        checkpoint: The checkpoint to go on from, if this is its scale; else nothing. It is taken
            out, so that its memory is free as soon as it was read.
        path: The file that it was read from.
        stack: What is to be closed when the scale is done.
    """
    saved = checkpoint.pop() if checkpoint else None
    pictures = prepared.pictures(scale, recorder.best)
    plan = prepared.plan(pictures)
    if saved is not None:  # results depend on the grid: a run goes on with that it began with
        text = saved.identity.made_from.get("strips")
        height, width = pictures.content.shape[-2:]
        grid = pieces.restored(text, height, width, prepared.settings, prepared.device)
        plan = replace(plan, grid=grid)
    store = None
    if plan.scratch is not None:
        mapped = prepared.need(pictures).mapped()
        store = stack.enter_context(ScratchStore(plan.scratch, mapped))
    engine = prepared.engine(pictures, plan=plan, store=store)
    identity = _identity(prepared, engine, plan.grid)
    start, colours = pictures.start, pictures.colours
    del pictures  # which may be large, and the engine has what it needs
    if plan.grid is not None:
        give_back()
    state = None
    if saved is not None and path is not None:
        saved.identity.check(identity, path)
        _check_fits(saved, prepared, start, path)
        recorder.restore(saved, engine, colours)
        engine.resume(recorder.totals())
        state = saved.solver
    writer = None
    if checkpoints is not None:
        done = 0 if state is None else state.numbers["iteration"]
        writer = CheckpointWriter(checkpoints, identity, recorder, scale.iterations, done)
    recorder.begin_scale(plan.strips)
    iterates = solve(
        engine,
        start,
        prepared.settings,
        scale.iterations,
        stepwise=writer is not None,
        resume=state,
        placement=Placement(() if plan.grid is None else plan.grid.rows, store),
    )
    del start, state, saved
    _follow(iterates, recorder, writer, engine, colours)
    recorder.end_scale(store is not None)


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
    return Identity.of(prepared.settings, prepared.sources.digests | made_from)
