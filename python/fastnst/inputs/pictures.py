"""Content, styles and start of a run, from files to tensors."""

from __future__ import annotations

import functools
import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastnst.cache import Cache
from fastnst.errors import InvalidInput
from fastnst.fingerprint import digest
from fastnst.images.colour import grey, match_colours, match_histogram
from fastnst.images.decode import Picture, load_image
from fastnst.images.pixels import Pixels, resize, scaled_size, to_tensor
from fastnst.inputs.masks import Masks, read_masks
from fastnst.objective.regions import Region
from fastnst.settings.settings import INITS, Settings

NOISE_MEAN, NOISE_STD = 0.5, 0.05

Styles: TypeAlias = "Picture | Iterable[Picture]"
AREA = 3.0  # of a style picture at its default size, in areas of the result, at most


@dataclass(frozen=True)
class Sources:
    """The pictures of a run as they were decoded: ``(H, W, 3)`` float32, RGB in [0, 1].

    Attributes:
        content: The content picture.
        styles: The style pictures, at least one.
        masks: Which style goes where, if there are masks.
        start: The picture that the optimisation starts from, if it starts from a picture.
    """

    content: Pixels
    styles: tuple[Pixels, ...]
    masks: Masks | None = None
    start: Pixels | None = None

    @property
    def pixels(self) -> int:
        """Pixels of all of them, 12 bytes each."""
        pictures = [self.content, *self.styles, *([] if self.start is None else [self.start])]
        return sum(picture.shape[0] * picture.shape[1] for picture in pictures)

    def size(self, size: int) -> tuple[int, int]:
        """Width and height of a result with this long side; 0: the size of the content."""
        height, width, _ = self.content.shape
        return scaled_size(width, height, size)

    def style_sizes(self, settings: Settings, size: int) -> list[tuple[int, int]]:
        """Width and height of each style picture, scaled for a result with this long side.

        Raises:
            InvalidInput: if the settings are for another number of style pictures.
        """
        settings.blend(len(self.styles))  # the one place where inputs are held to their number
        width, height = self.size(size)
        return [
            _style_size(pixels, index, settings, width, height)
            for index, pixels in enumerate(self.styles)
        ]

    def style_pixels(self, settings: Settings, size: int) -> int:
        """Pixels of the largest style picture, scaled for a result with this long side."""
        return max(width * height for width, height in self.style_sizes(settings, size))

    def digests(self) -> dict[str, str]:
        """SHA-256 of each picture that a result depends on, by what the picture is."""
        found = {"content picture": digest(torch.from_numpy(self.content))}
        for k, style in enumerate(self.styles, start=1):
            name = "style picture" if len(self.styles) == 1 else f"style picture {k}"
            found[name] = digest(torch.from_numpy(style))
        if self.masks is not None:
            found["mask"] = self.masks.digest()
        if self.start is not None:
            found["starting picture"] = digest(torch.from_numpy(self.start))
        return found


@dataclass(frozen=True)
class Pictures:
    """The pictures of a run at one scale: RGB in [0, 1], float32, all on one device.

    ``content, style, start = pictures`` gives the content, the first style and the start.

    Attributes:
        content: ``(1, 3, H, W)``, scaled to the size of the result.
        styles: ``(1, 3, h, w)`` each, scaled, in their own aspect ratio unless
            ``style_fit="content"``.
        start: ``(1, 3, H, W)``, where the optimisation starts.
        regions: Which style goes where; None: all of them everywhere.
        colours: ``(1, 3, H, W)``, the picture whose colours the result gets at the end, or None.
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

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.content, self.style, self.start))

    def to(self, device: torch.device) -> Pictures:
        """These pictures on a device."""
        return Pictures(
            self.content.to(device),
            tuple(style.to(device) for style in self.styles),
            self.start.to(device),
            None if self.regions is None else tuple(r.to(device) for r in self.regions),
            None if self.colours is None else self.colours.to(device),
        )


def decode(
    content: Picture,
    style: Styles,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
    cache: Cache | None = None,
    init: str = "noise",
) -> Sources:
    """Load the pictures of one run, each of them once: a pipe cannot be read again.

    Args:
        content: Anything that ``load_image`` takes.
        style: Anything that ``load_image`` takes, or several of such in any iterable.
        content_mask: A mask of the content picture, or None; see ``masks.py``.
        style_masks: A mask of the style picture, one for each style picture, or None.
        cache: The styles that earlier calls decoded, to be used again.
        init: The setting: a picture, unless it is one of ``INITS``.

    Raises:
        InvalidInput: for a picture that cannot be used, an empty list, or masks that do not fit.
    """
    pixels = load_image(content, "content")
    styles = _load_all(style, "style", cache)
    if not styles:
        raise InvalidInput("there is no style picture")
    masks = None
    if content_mask is not None or style_masks:
        masks = read_masks(
            None if content_mask is None else load_image(content_mask, "the content mask"),
            () if style_masks is None else _load_all(style_masks, "style mask"),
            len(styles),
        )
    return Sources(pixels, styles, masks, None if init in INITS else _load_start(init))


def scale_pictures(sources: Sources, settings: Settings, size: int) -> Pictures:
    """Scale the pictures of a run, set their colours, and make the start.

    Args:
        sources: The pictures as they were decoded.
        settings: ``init``, ``seed``, ``color`` and how styles are scaled are read from here.
        size: Long side of the result in pixels; 0 keeps the content's own size.

    Returns:
        The pictures, on the CPU.

    Raises:
        InvalidInput: if the settings are for another number of style pictures, or name a starting
            picture that cannot be used.
    """
    style_sizes = sources.style_sizes(settings, size)
    width, height = sources.size(size)
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
    start = _start(content, styles, settings, sources.start)
    return Pictures(content, styles, start, regions, colours)


def _load_all(pictures: Styles, label: str, cache: Cache | None = None) -> tuple[Pixels, ...]:
    """Every picture, decoded; ``label`` is what messages call them."""
    cache = cache or Cache()
    several = _several(pictures, label)
    names = [label] if len(several) == 1 else [f"{label} {k}" for k in range(1, len(several) + 1)]
    return tuple(
        cache.get("styles", version(picture), functools.partial(load_image, picture, name))
        for picture, name in zip(several, names, strict=True)
    )


def _several(pictures: Styles, label: str) -> list[Picture]:
    """One picture or any iterable of pictures, a generator too, as a list."""
    if isinstance(pictures, (str, os.PathLike, Image.Image, np.ndarray, Tensor)):
        return [pictures]
    try:
        return list(pictures)
    except TypeError as error:
        raise InvalidInput(
            f"{label} is of type {type(pictures).__name__}: expected a path, a PIL image, an "
            "array, a tensor, or several of these"
        ) from error


def _with_colour(
    content: Tensor, styles: tuple[Tensor, ...], color: str
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Content and styles in the colours that the objective is to see."""
    if color == "luminance":
        return grey(content), tuple(grey(style, like=content) for style in styles)
    if color in ("match-covariance", "match-histogram"):
        match = match_colours if color == "match-covariance" else match_histogram
        return content, tuple(match(style, content) for style in styles)
    return content, styles


def version(picture: Picture) -> Hashable:
    """A key that tells a picture from others, and a file from what it was before it changed."""
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
    """Width and height of a style picture, for a result of ``width`` × ``height``.

    At its default size it has the long side of the result, but no more than ``AREA`` times its
    area: only beside results that are longer than 3:1 does that make it smaller.
    """
    factor = settings.style_scale[index if len(settings.style_scale) > 1 else 0]
    if settings.style_fit == "content":
        return max(1, round(width * factor)), max(1, round(height * factor))
    own_height, own_width, _ = pixels.shape
    own_side = max(own_width, own_height)
    if settings.style_size is None:
        own_aspect = own_side / min(own_width, own_height)
        side = min(max(width, height), (AREA * width * height * own_aspect) ** 0.5)
    else:
        side = settings.style_size or own_side
    return scaled_size(own_width, own_height, max(1, round(side * factor)))


def _start(
    content: Tensor, styles: Sequence[Tensor], settings: Settings, pixels: Pixels | None
) -> Tensor:
    """The picture that the optimisation starts from, of the size of the content.

    Args:
        content: The content at the size of the result.
        styles: The styles, scaled.
        settings: ``init``, ``seed`` and how styles are blended are read.
        pixels: The picture that ``init`` names, if it names one.
    """
    if settings.init == "noise":
        return white_noise(content, settings.seed)
    if settings.init == "content":
        return content.clone()
    if settings.init == "matched":
        return match_colours(content, styles, settings.blend(len(styles)))
    assert pixels is not None  # decoded with the others
    return to_tensor(resize(pixels, content.shape[3], content.shape[2]))


def _load_start(init: str) -> Pixels:
    try:
        return load_image(init)
    except InvalidInput as error:
        raise InvalidInput(f"init: {error} (or use noise, content or matched)") from error
