"""The public verbs: a picture in another's style, and each half of the method on its own.

The halves are a texture, which has no content, and a reconstruction, which has no style.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fastnst.devices import DEFAULT_SIZE, choose_device
from fastnst.errors import InvalidInput
from fastnst.images.decode import Picture, load_image
from fastnst.images.large import open_rows
from fastnst.images.pixels import scaled_size
from fastnst.images.rows import PixelRows
from fastnst.images.scratch import PictureStore
from fastnst.inputs.pictures import Styles, decode
from fastnst.inputs.sizes import most_pixels
from fastnst.notebook import with_progress
from fastnst.run.checkpoint import Checkpoints
from fastnst.run.resources import UNLIMITED, Resources
from fastnst.run.result import Result
from fastnst.run.run import run
from fastnst.run.step import Step
from fastnst.settings.presets import make_settings
from fastnst.settings.settings import (
    INITS,
    MIDDLE,
    NO_CONTENT,
    NO_STYLE,
    Settings,
    check_no_strength,
)
from fastnst.video.film_frame import FilmFrame
from fastnst.video.flow import Flow, Frame, choose_flow
from fastnst.video.options import FilmOptions
from fastnst.video.painter import Painter
from fastnst.video.stylise import stylise

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastnst.settings.keywords import SettingsDict

PROPORTIONS = (0.05, 20.0)  # width : height of a texture


def stylize(
    content: Picture,
    style: Styles,
    *,
    preset: str = "gatys",
    callback: Callable[[Step], None] | None = None,
    progress: bool | None = None,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: str | os.PathLike[str] | None = None,
    memory: str | float | None = None,
    scratch: str | os.PathLike[str] | None = None,
    max_megapixels: float | None = None,
    **settings: Unpack[SettingsDict],
) -> Result:
    """Give ``content`` the style of ``style`` (Gatys, Ecker and Bethge, arXiv:1508.06576).

    Args:
        content: A path, ``sample:NAME``, a PIL image, an array ``(H, W, 3)`` or a tensor
            ``(3, H, W)``; see ``fastnst.load_image``.
        style: Anything that ``content`` may be; or a list of such, blended as ``style_blend`` and
            ``blending`` say.
        preset: A key of ``fastnst.PRESETS``.
        callback: Called with a ``Step`` after each evaluation; an exception ends the run.
        progress: Whether to show a line that says how far the run is; None: in a notebook only.
        content_mask: A picture, grey or in plain colours, that says which part of the content
            gets which style; see ``masks.py``.
        style_masks: A mask for the style picture, or a list with one for each: which part counts.
        checkpoint: A file to save the state of the run in.
        checkpoint_every: Iterations between two checkpoints; None: 50.
        resume: A checkpoint to go on from, of a run of the same pictures, weights and settings
            (``iterations`` may differ). The result is that of a run that was never interrupted,
            bit for bit on the same machine.
        memory: The most that the run may take, on a GPU of the GPU's memory: ``"8GB"``, or a number
            of bytes; None: what is free. A picture that does not fit is computed in strips, with
            the same result but for rounding.
        scratch: A folder on a disk for what does not fit in strips either, in files that are gone
            when the run is. Large pictures lie there too; None: these lie in the system's folder
            for temporary files, and what does not fit is refused.
        max_megapixels: The most pixels of a picture file to decode, in millions; None: 179, or
            what a result of the size that is asked for may have. More needs the extra ``large``.
        **settings: Attributes of ``fastnst.Settings`` that replace the preset's.

    Returns:
        The result. Nothing is written or printed, but for the line of ``progress``.

    Raises:
        InvalidInput: for a picture or setting that cannot be used, and for a result that does not
            fit in memory, with a size that does.
        BackendUnavailable: if an engine or device asked for by name cannot run.
        NonFiniteLoss: if the loss is not finite; ``error.result`` has the best picture, or is None.
        Interrupted: on Ctrl-C during the optimisation; ``error.result`` has the best picture.
        OutputFailed: if a checkpoint cannot be written.
    """
    try:
        path = None if checkpoint is None else Path(checkpoint)
        resumed = None if resume is None else Path(resume)
    except TypeError as error:
        raise InvalidInput(f"checkpoint and resume are paths of files: {error}") from error
    if path is None and checkpoint_every is not None:
        raise InvalidInput("checkpoint_every needs a checkpoint to write")
    every = Checkpoints.every if checkpoint_every is None else checkpoint_every
    checkpoints = None if path is None else Checkpoints(path, every)
    return run(
        content,
        style,
        make_settings(preset, settings),
        with_progress(callback, progress),
        content_mask=content_mask,
        style_masks=style_masks,
        checkpoints=checkpoints,
        resume=resumed,
        resources=Resources.of(memory, scratch, max_megapixels),
    )


def stylize_video(
    frames: Iterable[Picture],
    style: Styles,
    *,
    preset: str = "gatys",
    options: FilmOptions | None = None,
    flow: Flow | None = None,
    callback: Callable[[int, Step], None] | None = None,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
    **settings: Unpack[SettingsDict],
) -> Iterator[FilmFrame]:
    """Give the frames of a film the style of ``style``, without flicker (Ruder et al. 2016).

    Args:
        frames: The frames in their order, each anything that ``load_image`` takes, all of one size.
            A frame is taken when the one before it is done, so that films can be piped through.
        style: As for ``stylize``.
        preset: A key of ``fastnst.PRESETS``.
        options: How the frames hang together; None: the defaults. Further passes need the whole
            film: ``fastnst video`` makes them.
        flow: A function that finds the optical flow, in place of ``options.flow``.
        callback: Called with the number of the frame and a ``Step`` after each evaluation.
        content_mask: As for ``stylize``; one for all frames.
        style_masks: As for ``stylize``.
        **settings: Attributes of ``fastnst.Settings`` that replace the preset's. ``iterations`` are
            those of the first frame of a shot, which is made as ``stylize`` makes a picture.

    Yields:
        Each frame when it is done: ``frame.image``, ``frame.pixels``, ``frame.result``.

    Raises:
        InvalidInput: as ``stylize``, and for a frame of another size than the first.
        BackendUnavailable: as ``stylize``, and without OpenCV, if the flow is its.
    """
    chosen = FilmOptions() if options is None else options
    if not isinstance(chosen, FilmOptions):
        raise InvalidInput(f"options is of type {type(chosen).__name__}: expected FilmOptions")
    if not isinstance(frames, Iterable) or isinstance(frames, (str, bytes)):
        raise InvalidInput(f"frames is of type {type(frames).__name__}: expected several pictures")
    shape = tuple(getattr(frames, "shape", ()))
    if len(shape) == 3 and 3 in (shape[0], shape[-1]):  # others are pictures in grey
        raise InvalidInput("frames is one picture, not several: put it into a list")
    if chosen.passes != 1:
        raise InvalidInput(f"passes is {chosen.passes}: expected 1; fastnst video makes more")
    painter = Painter(
        *(style, make_settings(preset, settings), chosen, flow or choose_flow(chosen.flow)),
        content_mask=content_mask,
        style_masks=style_masks,
        listen=callback,
        own_flow=flow is not None,
    )
    loaded = (
        Frame(index, Fraction(index, 25), load_image(picture, f"frame {index}"))
        for index, picture in enumerate(frames)
    )
    return stylise(loaded, painter)


def texture(
    style: Styles,
    *,
    aspect: float | None = None,
    preset: str = "gatys",
    callback: Callable[[Step], None] | None = None,
    progress: bool | None = None,
    style_masks: Styles | None = None,
    memory: str | float | None = None,
    scratch: str | os.PathLike[str] | None = None,
    max_megapixels: float | None = None,
    **settings: Unpack[SettingsDict],
) -> Result:
    """Paint a texture: the style alone (Gatys, Ecker and Bethge, arXiv:1505.07376).

    Args:
        style: The picture of a texture, or a list of several to be blended; anything that
            ``load_image`` takes.
        aspect: Width : height of the result; None: that of the (first) style picture.
        preset: A key of ``fastnst.PRESETS``.
        callback: As for ``fastnst.stylize``.
        progress: As for ``fastnst.stylize``.
        style_masks: Which part of each style counts; see ``masks.py``.
        memory: As for ``fastnst.stylize``.
        scratch: As for ``fastnst.stylize``.
        max_megapixels: As for ``fastnst.stylize``.
        **settings: Attributes of ``fastnst.Settings`` that replace the preset's. ``content_weight``
            is 0, and there is no ``strength``; ``init`` is noise, or the path of a picture.

    Returns:
        The result.

    Raises:
        InvalidInput: for what ``stylize`` refuses, and settings that need a content picture.
    """
    check_no_strength(settings.get("strength", MIDDLE), NO_CONTENT)
    chosen = make_settings(preset, {"init": "noise", "content_weight": 0.0, **settings})
    return run_texture(
        style,
        chosen,
        with_progress(callback, progress),
        aspect=aspect,
        style_masks=style_masks,
        resources=Resources.of(memory, scratch, max_megapixels),
    )


def run_texture(
    style: Styles,
    settings: Settings,
    callback: Callable[[Step], None] | None = None,
    *,
    aspect: float | None = None,
    style_masks: Styles | None = None,
    resources: Resources = UNLIMITED,
) -> Result:
    """``texture`` for a ready ``Settings`` object, whose ``content_weight`` is 0."""
    check_no_strength(settings.strength, NO_CONTENT)
    if settings.content_weight:
        raise InvalidInput(f"content_weight is {settings.content_weight!r}: {NO_CONTENT}")
    if settings.init in INITS and settings.init != "noise":
        raise InvalidInput(f"init is {settings.init!r}: {NO_CONTENT}; use noise or a picture")
    if settings.color != "style":
        raise InvalidInput(f"color is {settings.color!r}: a texture has the colours of its style")
    low, high = PROPORTIONS
    if aspect is not None and not (isinstance(aspect, Real) and low <= aspect <= high):
        raise InvalidInput(f"aspect is {aspect!r}: expected width : height from {low} to {high}")
    grey = np.full((1, 1, 3), 0.5, np.float32)
    size = settings.size
    if size is None:
        size = DEFAULT_SIZE[choose_device(settings.device).type]
    largest = most_pixels(size, resources.megapixels)
    # Once: a pipe or a generator is empty afterwards.
    sources = decode(grey, style, store=PictureStore(resources.scratch), largest=largest)
    styles = sources.styles
    width, height = float(styles[0].width), float(styles[0].height)
    if aspect is not None:
        width, height = (width, width / aspect) if aspect > 1 else (height * aspect, height)
    width, height = scaled_size(max(1, round(width)), max(1, round(height)), size)
    # One pixel, however large: the memory for a result is looked at in the run.
    blank = PixelRows(as_strided(grey, (height, width, 3), (0, 0, grey.itemsize)), in_memory=1)
    return run(blank, styles, settings, callback, style_masks=style_masks, resources=resources)


def reconstruct(
    content: Picture,
    *,
    preset: str = "gatys",
    callback: Callable[[Step], None] | None = None,
    progress: bool | None = None,
    memory: str | float | None = None,
    scratch: str | os.PathLike[str] | None = None,
    max_megapixels: float | None = None,
    **settings: Unpack[SettingsDict],
) -> Result:
    """Show what a layer represents of a picture: the content alone (Gatys et al. 2015, figure 1).

    Args:
        content: Anything that ``load_image`` takes.
        preset: A key of ``fastnst.PRESETS``.
        callback: As for ``fastnst.stylize``.
        progress: As for ``fastnst.stylize``.
        memory: As for ``fastnst.stylize``.
        scratch: As for ``fastnst.stylize``.
        max_megapixels: As for ``fastnst.stylize``.
        **settings: Attributes of ``fastnst.Settings`` that replace the preset's, ``content_layers``
            above all. ``style_weight`` is 0, and there is no ``strength``; ``init`` is noise unless
            it is given.

    Returns:
        The result.

    Raises:
        InvalidInput: for what ``stylize`` refuses, and a strength.
    """
    check_no_strength(settings.get("strength", MIDDLE), NO_STYLE)
    chosen = make_settings(preset, {"init": "noise", "style_weight": 0.0, **settings})
    resources = Resources.of(memory, scratch, max_megapixels)
    return run_reconstruction(content, chosen, with_progress(callback, progress), resources)


def run_reconstruction(
    content: Picture,
    settings: Settings,
    callback: Callable[[Step], None] | None = None,
    resources: Resources = UNLIMITED,
) -> Result:
    """``reconstruct`` for a ready ``Settings`` object, whose ``style_weight`` is 0."""
    check_no_strength(settings.strength, NO_STYLE)
    if settings.style_weight:
        raise InvalidInput(f"style_weight is {settings.style_weight!r}: {NO_STYLE}")
    largest = most_pixels(settings.size, resources.megapixels)
    # Once, as above.
    picture = open_rows(content, PictureStore(resources.scratch), largest, "content")
    return run(picture, picture, settings, callback, resources=resources)
