"""One call from the pictures to the result: prepare, solve at each scale, record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastnst.cache import Cache
from fastnst.devices import check_process, undisturbed
from fastnst.errors import FastNSTError, InvalidInput, StateRefused
from fastnst.images.decode import Picture
from fastnst.images.large import DecodedRows
from fastnst.inputs.pictures import Styles
from fastnst.ranks.communication import current
from fastnst.run.agreement import check_same
from fastnst.run.checkpoint import Checkpoints, load_checkpoint, refusing
from fastnst.run.checkpoint_state import Checkpoint
from fastnst.run.exhaustion import enough
from fastnst.run.outcome import outcome
from fastnst.run.prepare import prepare
from fastnst.run.resources import UNLIMITED, Resources
from fastnst.run.result import Result
from fastnst.run.scales import run_scales
from fastnst.run.step import Step
from fastnst.settings.settings import Settings


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
    resources: Resources = UNLIMITED,
    by_band: bool = False,
) -> Result:
    """Do what ``stylize`` does, with a ready ``Settings`` object.

    Where this process is one of several ranks (``ranks/``), all of them call this with the same
    arguments. Rank 0 writes checkpoints, or each its part of them, and its result has the whole
    picture; that of any other rank has the rows that it owns.

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
        resources: What the run may take of the machine.
        by_band: Whether ranks that share the result keep their rows, rank 0 too: see
            ``Result.rows``, by which a large one is saved.

    Raises:
        InvalidInput: as for ``stylize``, and so are the other errors.
    """
    try:
        return _run(
            *(content, style, settings, callback, content_mask, style_masks, checkpoints, resume),
            *(cache, resources, by_band),
        )
    except StateRefused:  # the caller may begin anew, and the other ranks with it
        raise
    except FastNSTError as error:
        current().fail(str(error))
        raise


def _run(
    content: Picture | DecodedRows,
    style: Styles,
    settings: Settings,
    callback: Callable[[Step], None] | None,
    content_mask: Picture | None,
    style_masks: Styles | None,
    checkpoints: Checkpoints | None,
    resume: Path | None,
    cache: Cache | None,
    resources: Resources,
    by_band: bool,
) -> Result:
    check_process()
    prepared = prepare(content, style, settings, content_mask, style_masks, cache, resources)
    settings = prepared.settings
    if checkpoints is not None and current().rank == 0:
        checkpoints.check(prepared.width * prepared.height, settings, prepared.device)
    saved = _saved(resume)
    with enough(prepared.width, prepared.height, settings, prepared.device):
        recorder = run_scales(prepared, callback, checkpoints, saved, resume, by_band)
    result = outcome(recorder)
    assert result is not None  # a solver yields the start at least
    return result


def _saved(resume: Path | None) -> list[Checkpoint]:
    """The checkpoint to go on from, if there is one; all ranks call it together.

    Raises:
        StateRefused: on every rank, if one of them cannot use it.
    """
    saved: list[Checkpoint] = []
    reason = None
    try:
        saved += [] if resume is None else [load_checkpoint(resume)]
    except InvalidInput as error:
        reason = str(error)
    with refusing():
        check_same(saved, current(), reason)
    return saved
