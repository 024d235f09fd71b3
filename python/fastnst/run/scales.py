"""Solves at each scale, from the start or from a checkpoint, and records what is done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from fastnst.devices import undisturbed
from fastnst.errors import InvalidInput, NonFiniteLoss, OutputFailed
from fastnst.evaluation import Engine
from fastnst.ranks.communication import current
from fastnst.ranks.protocol import Communication
from fastnst.ranks.share import Share
from fastnst.run import pieces
from fastnst.run.available import give_back, return_large_blocks
from fastnst.run.checkpoint import Checkpoints, refusing
from fastnst.run.checkpoint_checks import check_fits
from fastnst.run.checkpoint_state import Checkpoint
from fastnst.run.checkpoint_writer import CheckpointWriter
from fastnst.run.ending import Diverged, Interrupted, Unsaved
from fastnst.run.identity import identity_of
from fastnst.run.outcome import outcome
from fastnst.run.preparation import Preparation
from fastnst.run.recorder import Recorder
from fastnst.run.schedule import Scale
from fastnst.run.sharing import check_shared, who_shares
from fastnst.run.solve import solve
from fastnst.run.step import Step
from fastnst.run.taking_up import take_up
from fastnst.solvers.iterate import Iterate
from fastnst.solvers.vectors import Placement
from fastnst.strips.storage import ScratchStore


@undisturbed()
def run_scales(
    prepared: Preparation,
    callback: Callable[[Step], None] | None,
    checkpoints: Checkpoints | None,
    saved: list[Checkpoint],
    resume: Path | None,
    by_band: bool = False,
) -> Recorder:
    """Solve at each scale, from where a checkpoint stopped.

    Where the memory runs out, all that this function holds is freed: so the caller holds none of
    it, neither engine nor recorder.
    """
    recorder = Recorder(prepared, callback, by_band)
    first = min(len(saved[0].scales), len(prepared.schedule) - 1) if saved else 0
    for scale in prepared.schedule[first:]:
        # what a checkpoint has is not lost by a state that does not fit
        kept = contextlib.nullcontext() if saved else _picture_saved(recorder)
        with kept, contextlib.ExitStack() as stack:
            _run_scale(prepared, scale, recorder, checkpoints, saved, resume, stack)
    return recorder


@contextlib.contextmanager
def _picture_saved(recorder: Recorder) -> Iterator[None]:
    """Let the picture of the last scale outlive whatever keeps the next one from being begun.

    A disk that is full by now, memory that others have taken, Ctrl-C. Where several ranks share a
    picture, the others are not asked for their parts of it.

    Raises:
        Unsaved: with the picture, in the place of the error.
        Interrupted: with the picture.
    """
    try:
        yield
    except (Unsaved, Interrupted, Diverged):
        raise  # with their picture
    except (InvalidInput, OutputFailed) as error:
        so_far = outcome(recorder) if current().ranks == 1 else None
        if so_far is None:
            raise
        raise Unsaved(str(error), so_far) from error
    except KeyboardInterrupt as interrupt:
        so_far = outcome(recorder) if current().ranks == 1 else None
        if so_far is None:
            raise
        raise Interrupted(so_far) from interrupt


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
    height, width = pictures.content.shape[-2:]
    if saved is not None:  # results depend on the grid: a run goes on with that it began with
        text = saved.identity.made_from.get("strips")
        with refusing():
            grid = pieces.restored(text, height, width, prepared.settings, prepared.device)
            plan = pieces.with_grid(plan, grid)
    if scale is prepared.schedule[-1]:
        check_shared(plan, current())
    pictures = pictures.to(plan.home(prepared.device))
    speech = who_shares(plan.grid, current())
    share = None if plan.grid is None else Share.of(plan.grid, speech)
    if plan.grid is not None and not plan.grid.exchanges:
        return_large_blocks()
    store = None
    if plan.scratch is not None:
        need = prepared.need(pictures)
        mapped = replace(need, height=height if share is None else share.height).mapped()
        store = stack.enter_context(ScratchStore(plan.scratch, mapped))
    engine = prepared.engine(pictures, plan=plan, store=store, communication=speech)
    identity = identity_of(prepared, engine, plan.grid)
    start, colours = pictures.start, pictures.colours
    del pictures  # which may be large, and the engine has what it needs
    if plan.grid is not None:
        give_back()
    placement = Placement(store=store)
    if share is not None and plan.grid is not None:
        placement = Placement(share.bands, store, speech, len(plan.grid.rows))
    state = None
    if saved is not None and path is not None:
        with refusing():
            saved.identity.check(identity, path)
            _check_fits(saved, prepared, start, path)
            state = saved.part(placement)
            take_up(recorder, saved, engine, colours, state, (height, width), start.device)
        totals = recorder.totals()
        unheard = state.tensors.get("unheard")  # totals that the engine has not been told of yet
        late = 0 if unheard is None else len(unheard)
        engine.resume(totals[: len(totals) - late])
    writer = None
    if checkpoints is not None and (speech.ranks > 1 or current().rank == 0):
        done = 0 if state is None else state.numbers["iteration"]
        writer = CheckpointWriter(
            *(checkpoints, identity, recorder, scale.iterations, done), placement=placement
        )
    if share is not None:
        start = share.own(start)
    recorder.begin_scale(plan.strips, share)
    iterates = solve(
        engine,
        start,
        prepared.settings,
        scale.iterations,
        stepwise=writer is not None or path is not None,  # as the run that wrote the file
        resume=state,
        placement=placement,
    )
    del start, state, saved
    _follow(iterates, recorder, writer, engine, colours, speech)
    recorder.end_scale(store is not None)


def _follow(
    iterates: Iterator[Iterate],
    recorder: Recorder,
    writer: CheckpointWriter | None,
    engine: Engine,
    colours: Tensor | None,
    speech: Communication,
) -> None:
    """Record each iterate, and turn the ways in which a run ends early into errors with a result.

    Where there are several ranks and one is interrupted, all of them stop after the same iteration:
    of this scale if they share its picture, else of the next that they share.

    Raises:
        Interrupted: on Ctrl-C, once there is a picture; its state is saved first.
        Diverged: if the loss is not finite.
        Unsaved: if a checkpoint, or what a callback writes, cannot be written.
    """
    last: Iterate | None = None
    before = 0  # iterates that were recorded before it
    at_rest = False  # whether the solver waits between two iterates, so that its state can be saved
    try:
        for iterate in iterates:
            last, before, at_rest = iterate, recorder.noted, True
            try:
                recorder.note(iterate, engine, colours)
            except KeyboardInterrupt:
                if current().ranks == 1:
                    raise
                current().ask_to_stop()
            if writer is not None:
                writer.note(iterate)
            if speech.ranks > 1 and speech.stops:
                raise KeyboardInterrupt
            at_rest = False
    except OutputFailed as error:
        # The other ranks of a picture, if there are any, are not asked for their parts of it.
        so_far = outcome(recorder) if current().ranks == 1 else None
        if so_far is None:
            raise
        raise Unsaved(str(error), so_far) from error
    except KeyboardInterrupt as interrupt:
        unsaved: OutputFailed | None = None
        whole = at_rest and recorder.noted > before  # else the last one's losses are missing
        if writer is not None and last is not None and whole and not last.averaged:
            try:
                writer.write(last)
            except OutputFailed as error:
                if speech.ranks > 1:
                    raise
                unsaved = error
        so_far = outcome(recorder)
        if unsaved is not None and so_far is not None:
            raise Unsaved(str(unsaved), so_far) from unsaved
        if so_far is None:
            raise
        raise Interrupted(so_far) from interrupt
    except NonFiniteLoss as error:
        raise Diverged(str(error), outcome(recorder)) from error


def _check_fits(saved: Checkpoint, prepared: Preparation, start: Tensor, path: Path) -> None:
    try:
        check_fits(saved, prepared.settings, prepared.schedule, start)
    except InvalidInput as error:
        raise InvalidInput(f"checkpoint {path} cannot be used: {error}") from error
