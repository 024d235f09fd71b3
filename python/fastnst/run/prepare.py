"""What a run needs before it can begin: once for runs, estimates and exports.

Whatever is wrong with a device, a picture, a size or a file of weights is said here, before the
work starts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from fastnst.cache import Cache
from fastnst.devices import DEFAULT_SIZE, choose_device
from fastnst.engines.create import choose_precision, create_engine
from fastnst.evaluation import Engine
from fastnst.files import check_folder
from fastnst.images.decode import Picture
from fastnst.images.large import DecodedRows
from fastnst.images.scratch import PictureStore, check_space
from fastnst.inputs.pictures import Pictures, Sources, Styles, decode, scale_pictures
from fastnst.inputs.sizes import most_pixels
from fastnst.losses import TemporalLoss
from fastnst.network.weights import Weights, load_weights
from fastnst.run.memory import CPU, Need
from fastnst.run.pieces import WHOLE, Plan
from fastnst.run.planning import make_plan
from fastnst.run.schedule import Scale, make_schedule
from fastnst.settings.settings import Settings
from fastnst.strips.storage import Store


@dataclass(frozen=True)
class Preparation:
    """A run that can begin.

    Attributes:
        settings: The settings of the run.
        device: The device that it runs on.
        sources: The pictures as they were decoded.
        schedule: The scales of the run, coarsest first.
        width: Width of the result in pixels.
        height: Height of the result in pixels.
        weights: The weights of the network.
        cache: What earlier runs made and this one may use again.
        memory_limit: Bytes that the run may take; None: what is free.
        scratch: A folder for what does not fit in memory; None: there is none, and large pictures
            lie in the system's folder for temporary files.
    """

    settings: Settings
    device: torch.device
    sources: Sources
    schedule: tuple[Scale, ...]
    width: int
    height: int
    weights: Weights
    cache: Cache
    memory_limit: int | None = None
    scratch: Path | None = None

    @property
    def style_pixels(self) -> int:
        """The number of pixels of the largest style picture, scaled for the result."""
        return self.sources.style_pixels(self.settings, self.schedule[-1].size)

    def pictures(self, scale: Scale, before: Tensor | None = None) -> Pictures:
        """The pictures of one scale, on the device.

        Args:
            scale: Which.
            before: ``(1, 3, h, w)``, the result of the scale before, from which this one starts.
        """
        with PictureStore(self.scratch) as store:
            found = scale_pictures(self.sources, self.settings, scale.size, store, before)
        return found.to(self.device)

    def plan(self, pictures: Pictures) -> Plan:
        """How the run at the scale of these pictures is made to fit in memory."""
        return make_plan(self.need(pictures), self.memory_limit, self.scratch)

    def need_at(self, scale: Scale) -> Need:
        """What the memory of the run at a scale depends on."""
        return _need(self.sources, self.settings, scale.size, self.device)

    def need(self, pictures: Pictures) -> Need:
        """What the memory of the run at the scale of these pictures depends on."""
        height, width = pictures.content.shape[-2:]
        styles = max((x.shape[-2] * x.shape[-1] for x in pictures.styles), default=0)
        sources = self.sources.pixels
        return Need(width, height, self.settings, self.device, styles, sources)

    def engine(
        self,
        pictures: Pictures,
        precision: str | None = None,
        plan: Plan = WHOLE,
        store: Store | None = None,
        temporal: tuple[float, TemporalLoss] | None = None,
    ) -> Engine:
        """Set up the engine for the pictures of one scale.

        Args:
            pictures: What ``pictures`` returned.
            precision: ``fp32``, ``bf16`` or ``mixed``; ``auto`` is fp32. None: the setting, and
                where that leaves it open what is quickest on the device.
            plan: How the run is made to fit.
            store: Where large tensors lie; None: in memory.
            temporal: γ and the temporal term of a frame of a film; None: there is none.

        Raises:
            BackendUnavailable: if the engine that was asked for by name cannot run.
            InvalidInput: for settings or pictures that do not fit together.
        """
        chosen = precision or choose_precision(self.settings, self.device)
        settings = replace(self.settings, precision=chosen)
        return create_engine(
            *(self.weights, pictures.content, pictures.styles, settings, pictures.regions),
            cache=self.cache,
            grid=plan.grid,
            store=store,
            keep=plan.keeps_content,
            temporal=temporal,
        )


def prepare(
    content: Picture | DecodedRows,
    style: Styles,
    settings: Settings,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
    cache: Cache | None = None,
    memory_limit: int | None = None,
    scratch: Path | None = None,
    max_megapixels: float | None = None,
) -> Preparation:
    """Choose the device and the scales, decode the pictures, check the memory, load the weights.

    Args:
        content: Anything that ``load_image`` takes.
        style: Anything that ``load_image`` takes, or a list or tuple of such.
        settings: The settings of the run.
        content_mask: Which part of the content gets which style; see ``masks.py``.
        style_masks: Which part of each style counts.
        cache: What earlier runs made and this one may use again.
        memory_limit: Bytes that the run may take; None: what is free.
        scratch: A folder for what does not fit in memory; None: there is none, and large pictures
            lie in the system's folder for temporary files.
        max_megapixels: The most pixels of a picture file to decode, in millions; None: 179, or
            what a result of the size that is asked for may have.

    Raises:
        InvalidInput: for a picture that cannot be used, or a size that does not fit in memory.
        BackendUnavailable: if the device that was asked for cannot be used, or the weights come
            from a package that is not installed.
    """
    cache = cache or Cache()
    device = choose_device(settings.device)
    size = DEFAULT_SIZE[device.type] if settings.size is None else settings.size
    if scratch is not None:
        check_folder(scratch)
    store, largest = PictureStore(scratch), most_pixels(size, max_megapixels)
    sources = decode(
        *(content, style, content_mask, style_masks, cache, settings.init), store, largest
    )
    schedule = make_schedule(settings, size, max(sources.content.height, sources.content.width))
    need = _need(sources, settings, schedule[-1].size, device)
    make_plan(need, memory_limit, scratch)
    check_space(scratch, sources.scratch_bytes(settings, schedule[-1].size))
    settings = replace(settings, history_size=settings.pairs(need.pixels))
    source = (settings.weights, settings.preprocessing)
    weights = cache.get("weights", source, lambda: load_weights(*source))
    return Preparation(
        *(settings, device, sources, schedule, need.width, need.height, weights, cache),
        memory_limit=memory_limit,
        scratch=scratch,
    )


def load_pictures(
    content: Picture,
    style: Styles,
    settings: Settings,
    size: int,
    device: torch.device | None = None,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
) -> Pictures:
    """Load and scale the pictures of one run.

    Args:
        content: Anything that ``load_image`` takes.
        style: Anything that ``load_image`` takes, or a list or tuple of such.
        settings: ``init``, ``seed``, ``color`` and how styles are scaled are read from here.
        size: Long side of the result in pixels; 0 keeps the content's own size.
        device: The device that the run will be on, the CPU by default. Its memory must suffice for
            the size, which is checked before anything is scaled.
        content_mask: Which part of the content gets which style; see ``masks.py``.
        style_masks: Which part of each style counts.

    Returns:
        The pictures, on the CPU.

    Raises:
        InvalidInput: for a picture that cannot be used, or a size that does not fit in memory.
    """
    store = PictureStore()
    sources = decode(
        *(content, style, content_mask, style_masks),
        init=settings.init,
        store=store,
        largest=most_pixels(size),
    )
    make_plan(_need(sources, settings, size, device or CPU))
    return scale_pictures(sources, settings, size, store)


def _need(sources: Sources, settings: Settings, size: int, device: torch.device) -> Need:
    """What the memory of a run depends on; ``size`` is the long side of its result."""
    width, height = sources.size(size)
    styles = sources.style_pixels(settings, size)
    return Need(width, height, settings, device, styles, sources.pixels)
