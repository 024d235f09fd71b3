"""How much memory a run will need, estimated before it starts, in each way of making it fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fastnst.engines.create import (
    TARGETS_AT_A_TIME,
    recomputes,
    targets_at_a_time,
)
from fastnst.images.large import WHOLE as LARGE
from fastnst.run.footprint import BEGIN, MAPS, SCRATCH, WEIGHTS, Footprint, footprint
from fastnst.run.pieces import WHOLE, Plan
from fastnst.run.schedule import make_schedule
from fastnst.settings.settings import Settings

# Bytes per pixel of a style picture while its statistics are computed: the features of the style
# layers, and those of conv1_1 and conv1_2 on the way.
STYLE_BYTES = 1400
CPU = torch.device("cpu")
# The same of the content picture, whose features PyTorch computes where it is computed whole.
CONTENT_BYTES = 1250
PICTURE = 12  # bytes per pixel of a picture in float32
SMALLEST = 16  # the least long side that a message proposes: one position at relu5_1


@dataclass(frozen=True)
class Need:
    """What the memory of a run depends on.

    Attributes:
        width: Width of the result (at its largest scale) in pixels.
        height: Height of the result in pixels.
        settings: The settings of the run.
        device: The device that it runs on.
        style_pixels: Pixels of the largest style picture, scaled. It is gone before the
            optimisation begins.
        further_styles: Pixels of every picture that is held beside that one: the other styles, and
            the originals of those that are recoloured.
        source_pixels: Pixels of all pictures as they were decoded, which a run keeps.
        regions: How many there are, where masks say which style goes where.
    """

    width: int
    height: int
    settings: Settings
    device: torch.device = CPU
    style_pixels: int = 0
    further_styles: tuple[int, ...] = ()
    source_pixels: int = 0
    regions: int = 0

    @property
    def pixels(self) -> int:
        """Pixels of the result."""
        return self.width * self.height

    def at(self, side: int) -> Need:
        """The same for a result with another long side, and style pictures scaled like it.

        They stay as they are where the settings name their size.
        """
        scale = side / max(self.width, self.height)
        width, height = (max(1, round(n * scale)) for n in (self.width, self.height))
        style = scale**2 if self.settings.style_size is None else 1.0
        further = tuple(round(pixels * style) for pixels in self.further_styles)
        largest = round(self.style_pixels * style)
        return replace(
            self, width=width, height=height, style_pixels=largest, further_styles=further
        )

    @property
    def styles(self) -> tuple[int, ...]:
        """Pixels of every style picture that is held before the optimisation begins."""
        return (self.style_pixels, *self.further_styles)

    def footprint(self, spare: int = 0) -> Footprint:
        """What such a run takes, by what it grows with.

        Args:
            spare: Curvature pairs that there is room for beyond those that are kept: one in pieces.
        """
        settings = self.settings
        side = max(self.width, self.height)
        iterations = make_schedule(settings, side, side)[-1].iterations
        # Of fewer pairs than half of the history a checkpoint makes a copy.
        pairs = min(settings.pairs(self.pixels) + spare, 2 * iterations)
        return footprint(
            settings, self.device, pairs, self.width, self.height, regions=self.regions
        )

    def whole(self) -> int:
        """Bytes at the peak of a picture that is computed whole."""
        takes = self.footprint()
        pictures = takes.begin * self.pixels + PICTURE * sum(self.styles)
        beginning = min(takes.fixed, SCRATCH + WEIGHTS) + max(
            CONTENT_BYTES * min(self.pixels, TARGETS_AT_A_TIME),
            STYLE_BYTES * min(self.style_pixels, TARGETS_AT_A_TIME),
        )
        return round(max(takes.whole(self.pixels), beginning + pictures)) + self._sources

    def in_pieces(self, plan: Plan, computed: int, at_a_time: int | None = None) -> int:
        """Bytes at the peak where the largest piece computes so many pixels.

        On a GPU they are those of the GPU, which has the pieces alone, see ``beside``, and of
        regions where they are in the whole picture.

        Args:
            plan: Where content targets and vectors lie.
            computed: Pixels.
            at_a_time: Pixels of a style picture that are computed together; None: half as many.
        """
        takes = self.footprint(spare=1)
        # the piece's targets, beside all
        anew = not plan.keeps_content or self.device.type != "cpu"
        piece = takes.fixed_in_pieces + (takes.piece + (takes.content if anew else 0)) * computed
        at_a_time = computed // 2 if at_a_time is None else at_a_time
        style = min(self.style_pixels, at_a_time) * STYLE_BYTES
        if self.device.type != "cpu":
            maps = self.regions * MAPS * self.pixels
            return round(max(piece, takes.fixed_in_pieces + style) + maps)
        solving, beginning = self._pictures(plan)
        return self._sources + round(max(piece + solving, max(piece, style) + beginning))

    def beside(self, plan: Plan) -> int:
        """Bytes of main memory that a run on a GPU takes beside the GPU's, in pieces.

        All that grows with the picture lies there. On a CPU, ``in_pieces`` has it.
        """
        if self.device.type == "cpu":
            return 0
        on_cpu = replace(self, device=CPU)
        return self._sources + round(max(on_cpu._pictures(plan)))

    def mapped(self) -> int:
        """Bytes that a run in pieces has in its scratch file, where it has one."""
        takes = replace(self, device=CPU).footprint(spare=1)
        return round((takes.vectors + takes.content) * self.pixels)

    def _pictures(self, plan: Plan) -> tuple[float, float]:
        """Bytes for the pixels of all pictures, in pieces: while it is solved, and before."""
        takes, mapped = self.footprint(spare=1), plan.scratch is not None
        held = takes.content if plan.keeps_content and not mapped else 0
        begin = takes.begin + held - (BEGIN if in_scratch(plan, self.pixels) else 0)
        styles = PICTURE * sum(n for n in self.styles if not in_scratch(plan, n))
        solving = takes.held + takes.temporary + held + (0 if mapped else takes.vectors)
        solving += 0 if plan.keeps_content else PICTURE
        return solving * self.pixels, begin * self.pixels + styles

    @property
    def _sources(self) -> int:
        return PICTURE * self.source_pixels


def in_scratch(plan: Plan, pixels: int) -> bool:
    """Whether a picture lies in the scratch folder before the work begins: a large one does."""
    return plan.scratch is not None and pixels > LARGE


def estimate(need: Need, plan: Plan = WHOLE) -> int:
    """Bytes that a run takes at its peak, on top of what the process has already.

    Pages of a scratch file do not count: the system takes them back when it needs them.

    Args:
        need: What that depends on.
        plan: How the run is made to fit.
    """
    if plan.grid is None or plan.grid.is_whole:
        return need.whole()
    if plan.grid.exchanges:
        return need.in_pieces(plan, need.pixels, targets_at_a_time(plan.grid))
    return need.in_pieces(plan, plan.grid.largest[0] * plan.grid.largest[1])


def plans(need: Need, scratch: Path | None) -> list[Plan]:
    """The ways of fitting in pieces, the quickest first; their grids are still to be chosen."""
    found = [WHOLE]
    if scratch is not None:
        return [*found, Plan(scratch=scratch)]
    if need.settings.content_weight and recomputes(need.settings, need.device):
        found.append(Plan(keeps_content=False))
    return found
