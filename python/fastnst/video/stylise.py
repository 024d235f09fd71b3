"""The frames of a film as a generator: frames in, finished frames out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise

from fastnst.video.film_frame import FilmFrame, Past, Shot
from fastnst.video.flow import Frame
from fastnst.video.painter import Painter


def stylise(
    frames: Iterable[Frame],
    painter: Painter,
    past: Sequence[Past] = (),
    shot: Shot | None = None,
) -> Iterator[FilmFrame]:
    """Stylise frames one after the other, as they are asked for.

    Args:
        frames: The frames in their order; each is taken when the one before it is done.
        painter: What paints them.
        past: The last finished frames of a film that goes on, in their order.
        shot: The shot of the last of them.

    Yields:
        Each frame when it is done.
    """
    known = list(past)
    longest = max(painter.options.distances)
    for frame in frames:
        painted = painter.paint(frame, known, shot)
        if painted.begins:
            known = []
        shot = painted.shot
        known = [*known, Past(painted.frame, painted.raw)][-longest:]
        yield painted


def refine(
    load: Callable[[int], Past],
    shots: Mapping[int, Shot],
    order: Sequence[int],
    painter: Painter,
    done: AbstractSet[int] = frozenset(),
) -> Iterator[FilmFrame]:
    """Go over finished frames once more (multi-pass algorithm, Ruder et al. 2016, §4.4).

    Args:
        load: Finds a frame as it was left last by its number in the clip.
        shots: The shot of each frame.
        order: The numbers of the frames in the order in which they are gone over.
        painter: What paints them.
        done: Those that were gone over in this pass already.

    Yields:
        Each frame that was gone over. The first of a shot in this order stays as it is.
    """
    taken_up: int | None = None  # the first frame of the shot at hand
    last: Past | None = None  # the frame before, if it was gone over just now
    for before, index in pairwise(order):
        shot = shots[index]
        if shots[before] != shot or index in done:
            last = None
            continue
        if taken_up != shot.first:
            painter.take_up(load(shot.first).frame)
            taken_up = shot.first
        painted = painter.refine(load(index), last or load(before), shot)
        last = Past(painted.frame, painted.raw)
        yield painted
