"""What a run needs before it can begin: once for runs, estimates and exports.

Whatever is wrong with a device, a picture, a size or a file of weights is said here, before the
work starts.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from fastnst.cache import Cache
from fastnst.devices import DEFAULT_SIZE, choose_device
from fastnst.images.decode import Picture
from fastnst.images.large import DecodedRows
from fastnst.images.scratch import PictureStore
from fastnst.inputs.pictures import Pictures, Styles, decode, scale_pictures, version
from fastnst.inputs.sizes import most_pixels
from fastnst.network.weights import load_weights
from fastnst.objective.build import check_sizes
from fastnst.ranks.communication import current
from fastnst.run.memory import CPU
from fastnst.run.planning import make_plan
from fastnst.run.preparation import Preparation, need_of
from fastnst.run.resources import UNLIMITED, Resources
from fastnst.run.schedule import make_schedule
from fastnst.run.sharing import check_shared, own_device
from fastnst.settings.settings import SPECS, Settings
from fastnst.strips.scratch import check_scratch


def prepare(
    content: Picture | DecodedRows,
    style: Styles,
    settings: Settings,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
    cache: Cache | None = None,
    resources: Resources = UNLIMITED,
) -> Preparation:
    """Choose the device and the scales, decode the pictures, check the memory, load the weights.

    Args:
        content: Anything that ``load_image`` takes.
        style: Anything that ``load_image`` takes, or a list or tuple of such.
        settings: The settings of the run.
        content_mask: Which part of the content gets which style; see ``masks.py``.
        style_masks: Which part of each style counts.
        cache: What earlier runs made and this one may use again.
        resources: What the run may take of the machine.

    Raises:
        InvalidInput: for a picture that cannot be used, or a size that does not fit in memory.
        BackendUnavailable: if the device that was asked for cannot be used, or the weights come
            from a package that is not installed.
    """
    cache, asked, settings = cache or Cache(), settings, settings.balanced()
    device = own_device(choose_device(settings.device), current())
    size = DEFAULT_SIZE[device.type] if settings.size is None else settings.size
    scratch = resources.scratch
    check_scratch(scratch)
    store, largest = PictureStore(scratch), most_pixels(size, resources.megapixels)
    sources = decode(
        *(content, style, content_mask, style_masks, cache, settings.init), store, largest
    )
    schedule = make_schedule(settings, size, max(sources.content.height, sources.content.width))
    need = need_of(sources, settings, schedule[-1].size, device)
    plan = make_plan(need, resources.memory, scratch)
    check_shared(plan, current())
    file = 0 if plan.scratch is None or current().ranks > 1 else need.mapped()
    check_scratch(scratch, sources.scratch_bytes(settings, schedule[-1].size) + file)
    settings = replace(settings, history_size=settings.pairs(need.pixels))
    weights = cache.get(
        "weights",
        (version(settings.weights), settings.preprocessing),
        lambda: load_weights(settings.weights, settings.preprocessing),
    )
    width, height = sources.size(schedule[0].size)  # the smallest scale is the first
    style_sizes = sources.style_sizes(settings, schedule[0].size)
    check_sizes(weights.architecture, settings, (width, height), style_sizes)
    return Preparation(
        *(asked, settings, device, sources, schedule, need.width, need.height),
        *(weights, cache, resources),
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
    store, settings = PictureStore(), settings.balanced()
    size = SPECS["size"].kind.check("size", size)
    sources = decode(
        *(content, style, content_mask, style_masks),
        init=settings.init,
        store=store,
        largest=most_pixels(size),
    )
    make_plan(need_of(sources, settings, size, device or CPU))
    return scale_pictures(sources, settings, size, store)
