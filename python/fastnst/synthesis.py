"""The two halves of the method on their own: a texture without a content, a content without a style."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnst.errors import InvalidInput
from fastnst.images import Picture
from fastnst.pictures import Styles, decode
from fastnst.presets import make_settings
from fastnst.result import Result, Step
from fastnst.settings import INITS, Settings
from fastnst.stylize import run

PROPORTIONS = (0.05, 20.0)  # width : height of a texture


def texture(
    style: Styles,
    *,
    aspect: float | None = None,
    preset: str = "gatys",
    callback: Callable[[Step], None] | None = None,
    style_masks: Styles | None = None,
    **settings: Any,
) -> Result:
    """Paint a texture: the style alone (Gatys, Ecker and Bethge, arXiv:1505.07376).

    Args:
        style: The picture of a texture, or several to be blended; anything that ``load_image`` takes.
        aspect: Width : height of the result; None: that of the (first) style picture.
        preset: A key of ``fastnst.PRESETS``.
        callback: As for ``fastnst.stylize``.
        style_masks: Which part of each style counts; see ``masks.py``.
        **settings: Attributes of ``fastnst.Settings`` that replace the preset's. ``content_weight``
            is 0; ``init`` is noise, or the path of a picture.

    Returns:
        The result.

    Raises:
        InvalidInput: for what ``stylize`` refuses, and settings that need a content picture.
    """
    chosen = make_settings(preset, {"init": "noise", "content_weight": 0.0, **settings})
    return run_texture(style, chosen, callback, aspect=aspect, style_masks=style_masks)


def run_texture(
    style: Styles,
    settings: Settings,
    callback: Callable[[Step], None] | None = None,
    *,
    aspect: float | None = None,
    style_masks: Styles | None = None,
) -> Result:
    """``texture`` with a ready ``Settings`` object, whose ``content_weight`` is 0."""
    if settings.content_weight:
        raise InvalidInput(
            f"content_weight is {settings.content_weight!r}: a texture has no content"
        )
    if settings.init in INITS and settings.init != "noise":
        raise InvalidInput(
            f"init is {settings.init!r}: a texture has no content; use noise or a picture"
        )
    if settings.color != "style":
        raise InvalidInput(f"color is {settings.color!r}: a texture has the colours of its style")
    low, high = PROPORTIONS
    if aspect is not None and not low <= aspect <= high:
        raise InvalidInput(f"aspect is {aspect!r}: expected width : height from {low} to {high}")
    grey = np.full((1, 1, 3), 0.5, np.float32)
    height, width, _ = decode(grey, style).styles[0].shape
    if aspect is not None:
        width, height = (width, width / aspect) if aspect > 1 else (height * aspect, height)
    blank = np.broadcast_to(grey, (max(1, round(height)), max(1, round(width)), 3))
    return run(np.array(blank), style, settings, callback, style_masks=style_masks)


def reconstruct(
    content: Picture,
    *,
    preset: str = "gatys",
    callback: Callable[[Step], None] | None = None,
    **settings: Any,
) -> Result:
    """Show what a layer knows of a picture: the content alone (Gatys et al. 2015, figure 1).

    Args:
        content: Anything that ``load_image`` takes.
        preset: A key of ``fastnst.PRESETS``.
        callback: As for ``fastnst.stylize``.
        **settings: Attributes of ``fastnst.Settings`` that replace the preset's, ``content_layers``
            above all. ``style_weight`` is 0; ``init`` is noise unless it is given.

    Returns:
        The result.

    Raises:
        InvalidInput: for what ``stylize`` refuses.
    """
    chosen = make_settings(preset, {"init": "noise", "style_weight": 0.0, **settings})
    return run_reconstruction(content, chosen, callback)


def run_reconstruction(
    content: Picture, settings: Settings, callback: Callable[[Step], None] | None = None
) -> Result:
    """``reconstruct`` with a ready ``Settings`` object, whose ``style_weight`` is 0."""
    if settings.style_weight:
        raise InvalidInput(
            f"style_weight is {settings.style_weight!r}: a reconstruction has no style"
        )
    return run(content, content, settings, callback)
