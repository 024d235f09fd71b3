"""The image loader: content, styles and start as tensors of one run."""

from __future__ import annotations

import functools
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from numpy.typing import NDArray
from torch import Tensor

from fastnst.cache import Cache
from fastnst.errors import InvalidInput
from fastnst.fingerprint import digest
from fastnst.images.colour import grey, match_colours, match_histogram
from fastnst.images.decode import Picture, load_image
from fastnst.images.pixels import Pixels, resize, scaled_size, to_tensor
from fastnst.inputs.masks import Masks, read_masks
from fastnst.objective.regions import Region
from fastnst.run import memory
from fastnst.settings.settings import INITS, Settings

NOISE_MEAN, NOISE_STD = 0.5, 0.05

Styles: TypeAlias = "Picture | Sequence[Picture]"


@dataclass(frozen=True)
class Sources:
    """The pictures of a run as they were decoded: ``(H, W, 3)`` float32, RGB in [0, 1].

    Attributes:
        content: The content picture.
        styles: The style pictures, at least one.
        masks: Which style goes where, if there are masks.
    """

    content: Pixels
    styles: tuple[Pixels, ...]
    masks: Masks | None = None

    def digests(self, settings: Settings) -> dict[str, str]:
        """SHA-256 of every picture, by what it is: what a result depends on beside its settings."""
        found = {"content picture": digest(torch.from_numpy(self.content))}
        for k, style in enumerate(self.styles, start=1):
            name = "style picture" if len(self.styles) == 1 else f"style picture {k}"
            found[name] = digest(torch.from_numpy(style))
        if self.masks is not None:
            found["mask"] = self.masks.digest()
        if settings.init not in INITS:
            found["starting picture"] = digest(torch.from_numpy(load_image(settings.init, "init")))
        return found


@dataclass(frozen=True)
class Pictures:
    """What a run works on: RGB in [0, 1], float32, on the CPU.

    Attributes:
        content: ``(1, 3, H, W)``, scaled to the size of the result.
        styles: ``(1, 3, h, w)`` each, scaled, in their own aspect ratio unless
            ``style_fit="content"``.
        start: ``(1, 3, H, W)``, where the optimisation starts.
        regions: Which style goes where; None: all of them everywhere.
        colours: ``(1, 3, H, W)``, the picture whose colours the result is given at the end, or None.
    """

    content: Tensor
    styles: tuple[Tensor, ...]
    start: Tensor
    regions: tuple[Region, ...] | None = None
    colours: Tensor | None = None

    @property
    def style(self) -> Tensor:
        """The first style picture."""
        return self.styles[0]


def decode(
    content: Picture,
    style: Styles,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
    kept: Cache | None = None,
) -> Sources:
    """Load the pictures of one run.

    Args:
        content: Anything that ``load_image`` takes.
        style: Likewise; or a list or tuple of such.
        content_mask: Likewise: a mask of the content picture; see ``masks.py``.
        style_masks: Likewise: a mask of the style picture, or one for each.
        kept: Styles decoded by earlier calls, to be used again.

    Raises:
        InvalidInput: for a picture that cannot be used, an empty list, or masks that do not fit.
    """
    pixels = load_image(content, "content")
    styles = _load_all(style, "style", kept)
    if not styles:
        raise InvalidInput("there is no style picture")
    masks = None
    if content_mask is not None or style_masks:
        masks = read_masks(
            None if content_mask is None else load_image(content_mask, "the content mask"),
            () if style_masks is None else _load_all(style_masks, "style mask"),
            len(styles),
        )
    return Sources(pixels, styles, masks)


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
        style: Likewise; or a list or tuple of such.
        settings: ``init``, ``seed``, ``color`` and how styles are scaled are read from here.
        size: Long side of the result in pixels; 0 keeps the content's own size.
        device: Where the run will be (the CPU by default): its memory must suffice for the size,
            which is checked before anything is scaled.
        content_mask: Which part of the content gets a style; see ``masks.py``.
        style_masks: Which part of each style counts.

    Raises:
        InvalidInput: for a picture that cannot be used, or a size that does not fit in memory.
    """
    sources = decode(content, style, content_mask, style_masks)
    return scale_pictures(sources, settings, size, device)


def scale_pictures(
    sources: Sources, settings: Settings, size: int, device: torch.device | None = None
) -> Pictures:
    """``load_pictures`` with pictures that are decoded already."""
    blend = settings.blend(len(sources.styles))
    width, height = scaled_size(sources.content.shape[1], sources.content.shape[0], size)
    check_memory(sources, settings, size, device or torch.device("cpu"))
    style_sizes = _style_sizes(sources, settings, width, height)
    content = to_tensor(resize(sources.content, width, height))
    styles = tuple(
        to_tensor(resize(pixels, *style_size))
        for pixels, style_size in zip(sources.styles, style_sizes, strict=True)
    )
    regions = None
    if sources.masks is not None:
        sizes = [(style.shape[2], style.shape[3]) for style in styles]
        regions = sources.masks.at((height, width), sizes)
    colours = content if settings.color in ("original", "luminance") else None
    content, styles = _with_colour(content, styles, settings.color)
    return Pictures(content, styles, _start(content, styles, blend, settings), regions, colours)


def check_memory(sources: Sources, settings: Settings, size: int, device: torch.device) -> None:
    """Refuse a size that does not fit in the memory of a device.

    Raises:
        InvalidInput: with the need, what is free, and a size that fits.
    """
    width, height = scaled_size(sources.content.shape[1], sources.content.shape[0], size)
    style_sizes = _style_sizes(sources, settings, width, height)
    memory.check(width, height, settings, device, max(w * h for w, h in style_sizes))


def _style_sizes(
    sources: Sources, settings: Settings, width: int, height: int
) -> list[tuple[int, int]]:
    settings.blend(len(sources.styles))  # are its numbers for as many styles as there are?
    return [
        _style_size(pixels, index, settings, width, height)
        for index, pixels in enumerate(sources.styles)
    ]


def _load_all(pictures: Styles, label: str, kept: Cache | None = None) -> tuple[Pixels, ...]:
    kept = kept or Cache()
    several = list(pictures) if isinstance(pictures, (list, tuple)) else [pictures]
    names = [label] if len(several) == 1 else [f"{label} {k}" for k in range(1, len(several) + 1)]
    return tuple(
        kept.get("styles", version(picture), functools.partial(load_image, picture, name))
        for picture, name in zip(cast("list[Picture]", several), names, strict=True)
    )


def _with_colour(
    content: Tensor, styles: tuple[Tensor, ...], color: str
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Content and styles as the objective is to see them."""
    if color == "luminance":
        return grey(content), tuple(grey(style, like=content) for style in styles)
    if color in ("match-covariance", "match-histogram"):
        match = match_colours if color == "match-covariance" else match_histogram
        return content, tuple(match(style, content) for style in styles)
    return content, styles


def version(picture: Picture) -> Hashable:
    """What tells a picture from others, and a file from what it was before it changed."""
    if not isinstance(picture, (str, os.PathLike)):
        return object()  # equal to nothing: it may change in place
    path = Path(picture)
    try:
        stat = path.stat()
    except (OSError, ValueError):  # decoding says what is wrong with it
        return os.fspath(picture)
    return path.resolve(), stat.st_mtime_ns, stat.st_size


def white_noise(like: Tensor, seed: int) -> Tensor:
    """Gaussian white noise around mid-grey, N(0.5, 0.05²) clamped to [0, 1], of ``like``'s shape.

    Noise of a large amplitude survives the optimisation as grain: uniform noise over [0, 1] ended
    in a dithered picture, with the same loss.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(like.shape, generator=generator, dtype=torch.float32, device="cpu")
    return (NOISE_MEAN + NOISE_STD * noise).clamp_(0, 1)


def _style_size(
    pixels: Pixels, index: int, settings: Settings, width: int, height: int
) -> tuple[int, int]:
    """Width and height of a style picture, for a result of ``width`` × ``height``."""
    factor = settings.style_scale[index if len(settings.style_scale) > 1 else 0]
    if settings.style_fit == "content":
        return max(1, round(width * factor)), max(1, round(height * factor))
    own_height, own_width, _ = pixels.shape
    side = max(width, height) if settings.style_size is None else settings.style_size
    side = side or max(own_width, own_height)
    return scaled_size(own_width, own_height, max(1, round(side * factor)))


def _start(
    content: Tensor, styles: Sequence[Tensor], blend: Sequence[float], settings: Settings
) -> Tensor:
    if settings.init == "noise":
        return white_noise(content, settings.seed)
    if settings.init == "content":
        return content.clone()
    if settings.init == "matched":
        return match_colours(content, styles, blend)
    try:
        pixels: NDArray[Any] = load_image(settings.init)
    except InvalidInput as error:
        raise InvalidInput(f"init: {error} (or use noise, content or matched)") from error
    return to_tensor(resize(pixels, content.shape[3], content.shape[2]))
