"""The scales of a run, coarse to fine (Gatys et al. 2017, arXiv:1611.07865, §6).

A network sees strokes of some hundred pixels at most. What is painted in a small picture and then
enlarged becomes large, coherent strokes, to which the finer scales add detail. Since every loss is
a mean, its weight means the same at every scale.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastnst.settings.settings import Settings


@dataclass(frozen=True)
class Scale:
    """One scale of a run.

    Attributes:
        size: Long side of the picture in pixels; 0: the content's own.
        iterations: How many iterations there are at this scale.
    """

    size: int
    iterations: int


def make_schedule(settings: Settings, size: int, own_size: int) -> tuple[Scale, ...]:
    """The scales of a run, coarsest first; one unless ``settings.min_size`` is below its size.

    Args:
        settings: ``min_size``, ``scale_step``, ``iterations`` and ``scale_iterations`` are read.
        size: Long side of the result in pixels; 0: the content's own.
        own_size: Long side of the content picture, as it was decoded.
    """
    sizes = [size]
    if settings.min_size is not None:
        largest = size or own_size
        while True:
            next_size = round(largest / settings.scale_step ** len(sizes))
            if next_size < settings.min_size or next_size == sizes[-1]:
                break
            sizes.append(next_size)
    sizes.reverse()
    later = settings.scale_iterations or (settings.iterations,)
    counts = [settings.iterations] + [later[min(i, len(later) - 1)] for i in range(len(sizes) - 1)]
    return tuple(Scale(*pair) for pair in zip(sizes, counts, strict=True))
