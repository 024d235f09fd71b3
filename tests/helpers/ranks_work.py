"""What ranks do in tests: functions that another process can import."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from fastnst.engines.strips.autograd import AutogradEvaluator
from fastnst.engines.strips.engine import StripEngine
from fastnst.engines.strips.exchange import ExchangeEngine, ExchangingEvaluator
from fastnst.engines.strips.native import NativeEvaluator
from fastnst.engines.strips.targets import chosen
from fastnst.errors import FastNSTError, OutputFailed
from fastnst.images import encode
from fastnst.network.vgg import VGG
from fastnst.objective.build import build_objective
from fastnst.ranks import communication
from fastnst.ranks.share import Share
from fastnst.ranks.watch import Watch
from fastnst.run import checkpoint_parts, checkpoint_tensors
from fastnst.run.checkpoint import Checkpoints
from fastnst.run.ending import Interrupted
from fastnst.run.run import run
from fastnst.run.step import Step
from fastnst.settings.settings import Settings
from fastnst.solvers.banded_fourier import BandedFourier
from fastnst.solvers.minimise import minimise
from fastnst.solvers.sharing import own_part, together
from fastnst.solvers.state import State
from fastnst.solvers.vectors import Placement
from fastnst.strips.geometry import Grid, Span
from helpers.controls import picture
from helpers.networks import made_of_noise
from helpers.pictures import smooth
from helpers.strips import CONTROLS, SHALLOW, objective, spacing_of

WIDTH = 9  # of pictures


def places() -> tuple[int, int, bool, int]:
    """Which rank of how many."""
    mine = communication.current()
    return mine.rank, mine.ranks, mine.joined, mine.local_ranks


def neighbours() -> tuple[Any, Any, int]:
    """What comes from above and from below, and the bytes that went there."""
    mine = communication.current()
    rows = torch.arange(12.0).view(1, 3, 2, 2).permute(0, 1, 3, 2)  # not contiguous
    above, below = mine.exchange(rows + 100 * mine.rank, rows + 100 * mine.rank + 50)
    return above, below, mine.sent


def sums(rounds: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int, int]:
    """Sums in fixed point and in order, with the bytes and the communications."""
    mine = communication.current()
    for _ in range(rounds):
        units = torch.tensor([2**61 - 1, -5, mine.rank]) // mine.ranks
        parts = torch.zeros(2 * mine.ranks, 2, dtype=torch.float64)
        # Added in another order these give another sum: 1e16 + 1 − 1e16 is 0, not 1.
        values = torch.tensor([[1e16, 0.1], [1.0, 0.2], [-1e16, -0.0]], dtype=torch.float64)
        for band in (2 * mine.rank, 2 * mine.rank + 1):
            parts[band] = values[band % 3]
        mine.reduce_exact(units, parts)
    again = torch.zeros_like(parts)
    again[2 * mine.rank : 2 * mine.rank + 2] = parts[2 * mine.rank : 2 * mine.rank + 2]
    return units, parts, mine.reduce_in_order(again), mine.sent, mine.calls


def collections() -> tuple[Any, ...]:
    """Tensors of several shapes and objects on rank 0, and an object of rank 0."""
    mine = communication.current()
    mine.barrier()
    numbers = torch.arange(3 * mine.rank, dtype=torch.int16)
    given = {f"{mine.rank}.{n}": numbers[:n] for n in range(0, 3 * mine.rank, 2)}
    collected = [x.tolist() for x in mine.collect(numbers)]
    objects = mine.gather_objects({"rank": mine.rank})
    return mine.gather(given), collected, objects, mine.broadcast(f"of {mine.rank}")


def stopping() -> list[bool]:
    """Whether ranks stop, sum by sum; rank 1 asks for it between the second and the third."""
    mine = communication.current()
    found = []
    for step in range(4):
        if step == 2 and mine.rank == 1:
            mine.ask_to_stop()
        mine.reduce_in_order(torch.zeros(1, 1, dtype=torch.float64))
        found.append(mine.stops)
    return found


def lose(victim: int, how: str, at: str) -> None:
    """Speak on and on; one rank ends in the middle, or stops to answer."""
    mine = communication.current()
    rows = torch.zeros(1, 3, 4, 5)
    for step in range(1000):
        if step == 3 and mine.rank == victim:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            if how == "busy":
                time.sleep(8)  # more than rank 0 takes to say so
            raise OutputFailed("the disk is full")
        if at == "exchange":
            mine.exchange(rows, rows)
        else:
            mine.reduce_in_order(torch.zeros(4, 2, dtype=torch.float64))


def wait_in_a_chain(how: str) -> None:
    """Rank 1 is killed, rank 0 waits for it, and all others for rank 0 alone."""
    mine = communication.current()
    mine.barrier()
    rows = torch.zeros(1, 3, 4, 5)
    if mine.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if mine.rank:
        mine.all_to_all([], [(0, rows)])
    if how == "messages":
        mine.all_to_all([], [(1, rows)])
    elif how == "exchange":
        mine.exchange(rows, rows)
    elif how == "an exchange under way":
        mine.begin_exchange(rows, rows)
        mine.all_to_all([], [(1, rows)])
    elif how == "a sum":
        mine.barrier()
    else:
        mine.gather({"rows": rows})


def fail_while_others_wait(slow: float) -> str:
    """Rank 0 ends in an error; rank 1, which waits for it, takes long to look why."""
    mine = communication.current()
    mine.barrier()
    if mine.rank == 0:
        raise OutputFailed("the disk is full")
    find_out = Watch._find_out
    Watch._find_out = lambda self: (time.sleep(slow), find_out(self))[1]  # type: ignore[method-assign]
    try:
        mine.barrier()
    except FastNSTError as error:
        return str(error)
    return ""


def transforms(
    x: torch.Tensor, bands: tuple[Span, ...], colours: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    """A picture's spectrum there and back: what this rank has of both, bytes, communications."""
    mine = communication.current()
    count = len(bands)
    first, last = (count * (mine.rank + side) // mine.ranks for side in (0, 1))
    own = bands[first:last]
    rows = x[..., own[0].start : own[-1].stop, :].contiguous()
    placement = Placement(own, None, mine, count)
    fourier = BandedFourier(rows, placement, colours)
    spectrum = fourier.spectrum()
    vector = [view.reshape(-1).clone() for view in placement.views(rows)]
    sent, calls = mine.sent, mine.calls
    fourier.forward(vector, spectrum)
    found = torch.cat(spectrum, -1).clone()
    fourier.inverse(spectrum, vector)
    back = torch.cat([band.view(1, 3, -1, x.shape[-1]) for band in vector], -2)
    return found, back, mine.sent - sent, mine.calls - calls


def engine_of(control: str, height: int, kind: str) -> tuple[StripEngine, torch.Tensor]:
    """An engine in the smallest bands for a small picture, and the whole picture.

    Args:
        control: One of ``helpers.strips.CONTROLS``.
        height: Rows; there are ``WIDTH`` columns.
        kind: ``native``; ``exchanging``, the same with rows of features from the neighbours; or the
            dtype of an engine of PyTorch.
    """
    dtype = torch.float64 if kind == "float64" else torch.float32
    it, image = objective(made_of_noise(), height, WIDTH, control, dtype)
    spacing = spacing_of(it, (6,) if kind in ("native", "exchanging") else (1,))
    targets = chosen(picture(WIDTH, height, 1).to(dtype), True, None)
    speech = communication.current()
    if kind == "exchanging":
        spacing = spacing.exchanging()
        grid = Grid.cut(height, WIDTH, spacing, spacing.smallest)
        exchanging = ExchangingEvaluator(it, communication=speech)
        return ExchangeEngine(exchanging, grid, targets, None, speech), image
    grid = Grid.cut(height, WIDTH, spacing, spacing.smallest)
    evaluator = NativeEvaluator(it) if kind == "native" else AutogradEvaluator(it)
    return StripEngine(evaluator, grid, targets, None, speech), image


def evaluations(controls: list[str], height: int, kind: str) -> list[tuple[Any, ...]]:
    """Terms, this rank's rows of the gradient, bytes and communications, by control."""
    mine = communication.current()
    found = []
    for control in controls:
        engine, image = engine_of(control, height, kind)
        own = Share.of(engine.grid, mine).own(image)
        sent, calls = mine.sent, mine.calls
        one = engine.evaluate(own)
        terms = [one.terms.total, *one.terms.content.values(), *one.terms.style.values()]
        numbers = [float(term) for term in (*terms, one.terms.tv)]
        found.append((numbers, one.gradient.clone(), mine.sent - sent, mine.calls - calls))
    return found


def solution(
    optimizer: str,
    height: int,
    kind: str,
    iterations: int,
    saved: State | None = None,
    averaging: float = 0.0,
    stop: int | None = None,
) -> dict[str, Any]:
    """Losses, this rank's rows of the last and of the best picture, and the state that is saved.

    Args:
        optimizer: The solver.
        height: Rows of the picture.
        kind: As for ``engine_of``.
        iterations: How many.
        saved: What to go on from, of all ranks together; None: the beginning.
        averaging: As for ``minimise``.
        stop: The iteration after which to stop; None: the last.
    """
    mine = communication.current()
    engine, image = engine_of("squared", height, kind)
    share = Share.of(engine.grid, mine)
    placement = Placement(share.bands, None, mine, len(engine.grid.rows))
    losses, costs = [], []
    for iterate in minimise(
        engine.evaluate,
        share.own(image),
        iterations=iterations,
        history_size=3,
        optimizer=optimizer,
        averaging=averaging,
        placement=placement,
        resume=None if saved is None else own_part(saved, placement),
    ):
        losses.append(iterate.loss)
        costs.append((mine.sent, mine.calls))
        if iterate.iteration == stop:
            break
    state = together(iterate.state(), placement)
    if state is not None:
        state = State(state.numbers, {k: x.clone() for k, x in state.tensors.items()})
    return {
        "losses": losses,
        "image": iterate.image.clone(),
        "best": iterate.best.clone(),
        "state": state,
        "costs": costs,
    }


def attempt(height: int) -> str:
    """Share a picture; what is said if there are too many ranks."""
    try:
        engine_of("gram", height, "float32")
    except FastNSTError as error:
        return str(error)
    return ""


def whole_run(
    settings: dict[str, Any],
    size: tuple[int, int],
    checkpoint: Path | None = None,
    every: int = 50,
    resume: Path | None = None,
    stop: tuple[int, int] | None = None,
) -> Any:
    """A run as the command does it: its history, pixels, scales and pieces, or how it ended.

    Args:
        settings: Fields of ``Settings``.
        size: Width and height of the content.
        checkpoint: Where to save its state.
        every: How often.
        resume: What to go on from.
        stop: A rank, and the iteration at which it is interrupted.
    """
    mine = communication.current()

    def interrupt(step: Step) -> None:
        if stop == (mine.rank, step.iteration):
            raise KeyboardInterrupt

    try:
        result = run(
            smooth(*size),
            smooth(40, 44, seed=1),
            Settings(**settings),
            interrupt,
            checkpoints=None if checkpoint is None else Checkpoints(checkpoint, every),
            resume=resume,
        )
    except Interrupted as ended:
        result = ended.result
    except FastNSTError as error:
        return str(error)
    totals = [losses.total for losses in result.history]
    return totals, result.pixels, result.scales, result.strips, result.iterations


def run_on_a_full_disk(
    settings: dict[str, Any], size: tuple[int, int], path: Path, victim: int, number: int
) -> Any:
    """A run of which one rank cannot write the file of a checkpoint that comes after so many."""
    save, count = checkpoint_tensors.save_file, iter(range(99))

    def full(*given: Any) -> None:
        if next(count) == number:
            raise OSError(28, "No space left on device")
        save(*given)

    if communication.current().rank == victim:
        checkpoint_tensors.save_file = full
    return whole_run(settings, size, path, 2)


def run_until_killed(
    settings: dict[str, Any], size: tuple[int, int], path: Path, victim: int, number: int
) -> Any:
    """The same with a rank that is killed when half of that file is written."""
    save, count = checkpoint_tensors.save_file, iter(range(99))

    def half(tensors: Any, draft: Path, metadata: Any) -> None:
        save(tensors, draft, metadata)
        if next(count) == number:
            os.truncate(draft, draft.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    if communication.current().rank == victim:
        checkpoint_tensors.save_file = half
    return whole_run(settings, size, path, 2)


def run_on_folders(settings: dict[str, Any], size: tuple[int, int], folder: Path) -> Any:
    """A run whose ranks see other folders under the same name, as machines that share no disk."""
    rank = communication.current().rank
    path = folder / str(rank) / "run.fnst"
    path.parent.mkdir()
    return whole_run(settings, size, path, 2)


def shared_disk(path: Path) -> bool:
    """Whether ranks find that they can all write beside a checkpoint."""
    return checkpoint_parts.can_share(path, communication.current())


def resumed(settings: dict[str, Any], size: tuple[int, int], paths: list[Path | None]) -> Any:
    """A run that each rank would go on with from a checkpoint of its own."""
    return whole_run(settings, size, resume=paths[communication.current().rank])


def saved_by_band(
    settings: dict[str, Any], size: tuple[int, int], path: Path, pyramid: bool, bits: int
) -> Any:
    """A result that ranks keep by band, saved; the most rows that rank 0 has got at a time."""
    mine = communication.current()
    rows = [0]
    exchange = mine.all_to_all

    def counted(given: Any, taken: Any) -> None:
        rows.append(sum(x.shape[-2] for _, x in taken))
        exchange(given, taken)

    encode.TILED = 1  # every TIFF is a large one
    result = run(smooth(*size), smooth(40, 44, seed=1), Settings(**settings), by_band=True)
    mine.all_to_all = counted  # type: ignore[method-assign]
    if result.rows is None:
        result.save(path, bits, pyramid=pyramid)
    else:
        with result.rows.serving():
            if mine.rank == 0:
                result.save(path, bits, pyramid=pyramid)
    return result.size, result.pixels.shape, max(rows)


def lost_while_saving(settings: dict[str, Any], size: tuple[int, int], path: Path) -> str:
    """Rank 1 ends while rank 0 writes the result by band; what that says."""
    result = run(smooth(*size), smooth(40, 44, seed=1), Settings(**settings), by_band=True)
    assert result.rows is not None
    encode.TILED = 1
    if communication.current().rank == 1:
        raise OutputFailed("the cable was pulled")
    try:
        with result.rows.serving():
            result.save(path)
    except FastNSTError as error:
        return str(error)
    return ""


def pictures_on_the_way(settings: dict[str, Any], size: tuple[int, int]) -> Any:
    """What the callback of a run sees: the pictures of its steps, whole and reduced."""
    seen = []

    def look(step: Step) -> None:
        seen.append((step.pixels, step.reduced(50)))

    result = run(smooth(*size), smooth(40, 44, seed=1), Settings(**settings), look)
    return seen, {k: np.asarray(picture) for k, picture in result.snapshots.items()}


def style_targets(control: str, pixels: int | None) -> tuple[list[torch.Tensor], int]:
    """The statistics that the styles of a large picture are compared with, and pixels computed."""
    mine, computed = communication.current(), 0
    forward = VGG.forward

    def counted(network: VGG, x: torch.Tensor, *given: Any) -> Any:
        nonlocal computed
        computed += x.shape[-2] * x.shape[-1]
        return forward(network, x, *given)

    fields = {**SHALLOW, **CONTROLS[control], "content_weight": 0.0}
    styles = [0.4 * picture(41, 331, 2)]
    with mock.patch.object(VGG, "forward", counted):
        built = build_objective(
            *(made_of_noise(), picture(40, 40, 1), styles, Settings(**fields), "torch"),
            pixels=pixels,
            communication=mine,
        )
    parts = [part for loss in built.style.values() for _, part in loss.parts()]
    return [buffer for part in parts for _, buffer in part.named_buffers()], computed
