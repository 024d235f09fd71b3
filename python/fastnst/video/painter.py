"""One frame after the other: where it starts, what it is held to, and when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from fastnst.cache import Cache
from fastnst.devices import check_process, undisturbed
from fastnst.errors import InvalidInput
from fastnst.images.decode import Picture
from fastnst.images.pixels import resize, to_tensor
from fastnst.images.rows import PixelRows
from fastnst.inputs.matching import matched
from fastnst.inputs.pictures import Pictures, Styles, with_content
from fastnst.losses import TemporalLoss
from fastnst.run.preparation import Preparation
from fastnst.run.prepare import prepare
from fastnst.run.resources import UNLIMITED, Resources
from fastnst.run.schedule import Scale
from fastnst.run.step import Step
from fastnst.settings.settings import LARGEST_WEIGHT, Settings
from fastnst.video.consistency import Consistency, consistency, counted_once
from fastnst.video.cuts import is_cut
from fastnst.video.film_frame import FilmFrame, Past, Shot
from fastnst.video.flow import Flow, Frame, check_flow, find_flows
from fastnst.video.frame_run import FrameRun, style_loss_of
from fastnst.video.options import FilmOptions
from fastnst.video.warp import warp

Listener: TypeAlias = "Callable[[int, Step], None]"
OWN = 0.5  # of a pixel of the pass before, where its warped neighbour can be trusted


class _View(NamedTuple):
    """What a frame shows of the frames before it.

    Attributes:
        target: Those frames, warped to it, ``(1, 3, H, W)``: what it is held to.
        reliable: Where that can be trusted, ``(1, 1, H, W)``.
        start: The same with the edges of motions: what it starts from.
        seen: Where there is such a start, ``(1, 1, H, W)``.
    """

    target: Tensor
    reliable: Tensor
    start: Tensor
    seen: Tensor


class Painter:
    """Stylises the frames of a film, which all have one size.

    Args:
        style: As for ``stylize``.
        settings: The settings of each frame.
        options: How the frames hang together.
        flow: The optical flow.
        content_mask: Which part of each frame gets which style.
        style_masks: Which part of each style counts.
        listen: Called with the number of a frame and each ``Step`` of its optimisation.
        resources: What a frame may take of the machine.
        own_flow: Whether ``flow`` is the caller's function, and not what ``options.flow`` names.

    Raises:
        InvalidInput: for an engine that has no temporal term, if there is to be one.
    """

    def __init__(
        self,
        style: Styles,
        settings: Settings,
        options: FilmOptions,
        flow: Flow,
        *,
        content_mask: Picture | None = None,
        style_masks: Styles | None = None,
        listen: Listener | None = None,
        resources: Resources = UNLIMITED,
        own_flow: bool = False,
    ) -> None:
        if settings.engine == "onnx" and options.temporal_weight:
            raise InvalidInput("engine onnx has no temporal term: choose another, or weight 0")
        self.settings = settings
        self.options = options
        self.flow = flow
        self._flow_name = "the flow function" if own_flow else options.flow
        self._style, self._masks = style, (content_mask, style_masks)
        self._listen = listen
        self._resources = resources
        self._cache = Cache()
        self._prepared: Preparation | None = None
        self._pictures: Pictures | None = None  # of the shot, at the size of the result
        self._size: tuple[int, ...] = ()
        self._flows_of: int | None = (
            None  # the number of a frame, and its flows to others by theirs
        )
        self._flows: dict[int, tuple[Tensor, Consistency] | None] = {}

    def prepare(self, frame: Frame) -> Preparation:
        """Decode the styles, load the weights and check the memory, once for all frames."""
        if self._prepared is None:
            check_process()
            self._prepared = prepare(
                *(frame.pixels, self._style, self.settings, *self._masks),
                cache=self._cache,
                resources=self._resources,
            )
            self._size = frame.pixels.shape
        return self._prepared

    @undisturbed()
    def take_up(self, first: Frame) -> None:
        """Go on within a shot: the styles are in the colours that its first frame gives them.

        Args:
            first: That frame, in any size.
        """
        prepared = self.prepare(first)
        sources = replace(prepared.sources, content=PixelRows(first.pixels))
        self._pictures = replace(prepared, sources=sources).pictures(prepared.schedule[-1])

    @undisturbed()
    def paint(self, frame: Frame, past: Sequence[Past], shot: Shot | None) -> FilmFrame:
        """Stylise a frame.

        Args:
            frame: The frame, at the size of the clip.
            past: The frames before it in their order; none at the beginning.
            shot: The shot of the last of them.

        Raises:
            InvalidInput: if it has not the size of the frames before it, and where ``stylize`` and
                the flow raise it.
        """
        began = time.perf_counter()
        prepared = self.prepare(frame)
        if frame.pixels.shape != self._size:
            had, has = (f"{shape[1]}×{shape[0]}" for shape in (self._size, frame.pixels.shape))
            raise InvalidInput(
                f"the clip changes its size: {had} before frame {frame.index}, {has} from there"
            )
        small = replace(frame, pixels=resize(frame.pixels, prepared.width, prepared.height))
        view = self._look_back(small, past) if past and shot is not None else None
        if view is None or shot is None:
            return self._first(frame, small, began)
        pictures = with_content(self._of_shot(frame), small.pixels, self.settings)
        rest = self._recoloured(pictures)
        start = view.seen * view.start + (1 - view.seen) * rest
        return self._further(small, pictures, start, view, shot, began)

    @undisturbed()
    def refine(self, own: Past, neighbour: Past, shot: Shot) -> FilmFrame:
        """Go over a frame again, beside a neighbour that was gone over just now.

        Args:
            own: The frame as the pass before left it.
            neighbour: The frame after it or before it.
            shot: The shot that both belong to.
        """
        began = time.perf_counter()
        view = self._warped(own.frame, [neighbour])
        pictures = with_content(self._of_shot(own.frame), own.frame.pixels, self.settings)
        share = OWN * view.reliable  # §4.4: a blend, where the neighbour can be trusted
        start = share * view.target + (1 - share) * own.image
        return self._further(own.frame, pictures, start, view, shot, began)

    # ------------------------------------------------------------------------------ the frames --

    def _first(self, frame: Frame, small: Frame, began: float) -> FilmFrame:
        """The first frame of a shot: it is made as ``stylize`` makes a picture."""
        prepared = self.prepare(frame)
        sources = replace(prepared.sources, content=PixelRows(frame.pixels))
        prepared = replace(prepared, sources=sources)
        run = FrameRun(prepared, self._hear(frame))
        for scale in prepared.schedule:
            self._pictures = prepared.pictures(scale, run.recorder.best)
            run.optimise(self._pictures, self._pictures.start, scale.iterations)
        result, image = run.finish()
        losses = result.losses
        shot = Shot(frame.index, losses.total, style_loss_of(losses.style, self.settings))
        seconds = time.perf_counter() - began
        return FilmFrame(small, image, result, shot, None, 0.0, True, seconds)

    def _further(
        self,
        small: Frame,
        pictures: Pictures,
        start: Tensor,
        view: _View,
        shot: Shot,
        began: float,
    ) -> FilmFrame:
        iterations = self.options.frame_iterations
        prepared = self.prepare(small)
        # The average of Adam's iterates is for long runs.
        settings = replace(prepared.settings, averaging=0.0, precision=prepared.short_precision())
        scale = Scale(prepared.schedule[-1].size, iterations)
        prepared = replace(prepared, settings=settings, schedule=(scale,))
        run = FrameRun(prepared, self._hear(small))
        temporal = None
        if self.options.temporal_weight and float(view.reliable.sum()):
            loss = TemporalLoss(view.target, view.reliable)
            temporal = min(self.options.temporal_weight * shot.loss, LARGEST_WEIGHT), loss
        run.optimise(pictures, start, iterations, temporal, (shot, self.options.band))
        result, image = run.finish()
        share = float(view.reliable.mean())
        seconds = time.perf_counter() - began
        return FilmFrame(small, image, result, shot, run.temporal, share, False, seconds)

    # ------------------------------------------------------------------- what was there before --

    def _look_back(self, frame: Frame, past: Sequence[Past]) -> _View | None:
        """The frames before, warped to a frame; None if a shot begins with it."""
        last = past[-1]
        if self.options.cuts and not np.array_equal(frame.pixels, last.frame.pixels):
            backward, found = self._flow_back(frame, last)
            before = to_tensor(last.frame.pixels)
            if is_cut(to_tensor(frame.pixels), warp(before, backward), found.reliable):
                return None
        distances = self.options.distances
        return self._warped(frame, [past[-d] for d in distances if d <= len(past)])

    def _warped(self, frame: Frame, others: Sequence[Past]) -> _View:
        """Other frames, warped to a frame.

        Raises:
            InvalidInput: if there is no flow to any of them.
        """
        warped, found = [], []
        for other, between in zip(others, self._flows_between(frame, others), strict=True):
            if between is not None:
                warped.append(warp(other.image, between[0], "spline").clamp(0, 1))
                found.append(between[1])
        if not found:
            raise self._no_flow(frame, others[0])
        held = _merged(warped, [each.reliable for each in found])
        return _View(*held, *_merged(warped, [each.seen for each in found]))

    def _flow_back(self, frame: Frame, other: Past) -> tuple[Tensor, Consistency]:
        found = self._flows_between(frame, [other])[0]
        if found is None:
            raise self._no_flow(frame, other)
        return found

    def _no_flow(self, frame: Frame, other: Past) -> InvalidInput:
        return InvalidInput(
            f"there is no flow between frames {other.frame.index} and {frame.index} in "
            f"{self._flow_name}, both ways of which are needed"
        )

    def _flows_between(
        self, frame: Frame, others: Sequence[Past]
    ) -> list[tuple[Tensor, Consistency] | None]:
        """The flow from a frame to each of some others, and where it is reliable.

        None where there is no flow. What was found for the frame is kept until the next one.
        """
        if self._flows_of != frame.index:
            self._flows_of, self._flows = frame.index, {}
        missing = {
            other.frame.index: other.frame
            for other in others
            if other.frame.index not in self._flows
        }
        moved = {n: f for n, f in missing.items() if not np.array_equal(f.pixels, frame.pixels)}
        pairs = [pair for other in moved.values() for pair in ((frame, other), (other, frame))]
        vectors = iter(find_flows(self.flow, pairs))
        for index in missing:
            if index in moved:
                self._flows[index] = _judged(frame, next(vectors), next(vectors))
            else:
                self._flows[index] = _still(frame)
        return [self._flows[other.frame.index] for other in others]

    def _of_shot(self, frame: Frame) -> Pictures:
        """The pictures of the shot; of this frame if nobody has taken it up."""
        if self._pictures is None:
            self.take_up(frame)
        assert self._pictures is not None
        return self._pictures

    def _recoloured(self, pictures: Pictures) -> Tensor:
        """A frame in the colours of its styles: what the frames before do not show of it."""
        blend = self.settings.blend(len(pictures.styles))
        source = matched(pictures.content, pictures.styles, blend, pictures.regions)
        return to_tensor(source.rows(0, source.height))

    def _hear(self, frame: Frame) -> Callable[[Step], None] | None:
        listen, index = self._listen, frame.index
        return None if listen is None else lambda step: listen(index, step)


def _still(frame: Frame) -> tuple[Tensor, Consistency]:
    """The flow to a frame that is the same, in which nothing moves."""
    height, width, _ = frame.pixels.shape
    vectors = torch.zeros(height, width, 2, dtype=torch.float32, device="cpu")
    everywhere = torch.ones_like(vectors[..., 0])[None, None]
    return vectors, Consistency(everywhere, everywhere)


def _judged(
    frame: Frame, backward: Tensor | None, forward: Tensor | None
) -> tuple[Tensor, Consistency] | None:
    """The flow from a frame to another, and where the one back agrees; None without one of them."""
    if backward is None or forward is None:
        return None
    for vectors in (backward, forward):
        check_flow(vectors, frame)
    return backward, consistency(forward, backward)


def _merged(warped: Sequence[Tensor], shares: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Frames as one picture, each pixel from the first of them that has it; and who has any."""
    once = counted_once(shares)
    total = torch.stack(once).sum(0)
    picture = torch.stack([c * x for c, x in zip(once, warped, strict=True)]).sum(0)
    return picture / total.clamp(min=1e-6), total
