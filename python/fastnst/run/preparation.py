"""A run that can begin: its pictures at each scale, how it is made to fit, its engine."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastnst.cache import Cache
from fastnst.engines.create import (
    arithmetic,
    choose_precision,
    choose_short_precision,
    create_engine,
)
from fastnst.evaluation import Engine
from fastnst.images.scratch import PictureStore
from fastnst.inputs.pictures import Pictures, Sources, scale_pictures
from fastnst.losses import TemporalLoss
from fastnst.network.weights import Weights
from fastnst.ranks.protocol import Communication
from fastnst.run.memory import Need
from fastnst.run.pieces import WHOLE, Plan
from fastnst.run.planning import make_plan
from fastnst.run.resources import UNLIMITED, Resources
from fastnst.run.schedule import Scale
from fastnst.settings.settings import Settings
from fastnst.strips.storage import Store


@dataclass(frozen=True)
class Preparation:
    """A run that can begin.

    Attributes:
        asked: The settings of the run, as they were asked for.
        settings: The same with the weights that ``strength`` makes and the number of curvature
            pairs.
        device: The device that it runs on.
        sources: The pictures as they were decoded.
        schedule: The scales of the run, coarsest first.
        width: Width of the result in pixels.
        height: Height of the result in pixels.
        weights: The weights of the network.
        cache: What earlier runs made and this one may use again.
        resources: What the run may take of the machine.
    """

    asked: Settings
    settings: Settings
    device: torch.device
    sources: Sources
    schedule: tuple[Scale, ...]
    width: int
    height: int
    weights: Weights
    cache: Cache
    resources: Resources = UNLIMITED

    def pictures(self, scale: Scale, before: Tensor | None = None) -> Pictures:
        """The pictures of one scale, on the CPU.

        Args:
            scale: Which.
            before: ``(1, 3, h, w)``, the result of the scale before, from which this one starts.
        """
        before = None if before is None else before.cpu()
        with PictureStore(self.resources.scratch) as store:
            return scale_pictures(self.sources, self.settings, scale.size, store, before)

    def plan(self, pictures: Pictures) -> Plan:
        """How the run at the scale of these pictures is made to fit in memory."""
        return make_plan(self.need(pictures), self.resources.memory, self.resources.scratch)

    def need_at(self, scale: Scale) -> Need:
        """What the memory of the run at a scale depends on."""
        return need_of(self.sources, self.settings, scale.size, self.device)

    def need(self, pictures: Pictures) -> Need:
        """What the memory of the run at the scale of these pictures depends on."""
        height, width = pictures.content.shape[-2:]
        largest, *further = self.sources.styles_held(self.settings, max(height, width))
        regions = 0 if pictures.regions is None else len(pictures.regions)
        sources = self.sources.pixels
        return Need(
            *(width, height, self.settings, self.device, largest, tuple(further), sources, regions)
        )

    def arithmetic(self) -> str:
        """The precision that a run has here, and the one that a ``mixed`` run ends with."""
        return arithmetic(self.settings, self.device)

    def short_precision(self) -> str:
        """That of a run of a few iterations, as ``choose_short_precision`` has it."""
        return choose_short_precision(self.settings, self.device)

    def engine(
        self,
        pictures: Pictures,
        precision: str | None = None,
        plan: Plan = WHOLE,
        store: Store | None = None,
        temporal: tuple[float, TemporalLoss] | None = None,
        communication: Communication | None = None,
    ) -> Engine:
        """Set up the engine for the pictures of one scale.

        Args:
            pictures: What ``pictures`` returned, on any device.
            precision: ``fp32``, ``int16``, ``bf16`` or ``mixed``; ``auto`` is fp32. None: the
                setting, and where that leaves it open what is quickest on the device.
            plan: How the run is made to fit.
            store: Where large tensors lie; None: in memory.
            temporal: γ and the temporal term of a frame of a film; None: there is none.
            communication: How this process speaks to those that compute the other bands of the
                picture; None: there are none.

        Raises:
            BackendUnavailable: if the engine that was asked for by name cannot run.
            InvalidInput: for settings or pictures that do not fit together.
        """
        chosen = precision or choose_precision(self.settings, self.device)
        settings = replace(self.settings, precision=chosen)
        pictures = pictures.to(plan.home(self.device))
        return create_engine(
            *(self.weights, pictures.content, pictures.styles, settings, pictures.regions),
            cache=self.cache,
            grid=plan.grid,
            store=store,
            keep=plan.keeps_content,
            temporal=temporal,
            communication=communication,
            keep_features=plan.keeps_features,
            device=self.device,
        )


def need_of(sources: Sources, settings: Settings, size: int, device: torch.device) -> Need:
    """What the memory of a run depends on; ``size`` is the long side of its result."""
    width, height = sources.size(size)
    largest, *further = sources.styles_held(settings, size)
    regions = 0 if sources.masks is None else len(sources.masks.regions)
    return Need(
        *(width, height, settings, device, largest, tuple(further), sources.pixels, regions)
    )
