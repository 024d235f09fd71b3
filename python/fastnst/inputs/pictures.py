"""Content, styles and start of a run, from files to tensors."""

from __future__ import annotations

import functools
import io
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
from fastnst.images import large
from fastnst.images.colour import grey
from fastnst.images.colour_rows import GreyRows, HistogramMatchedRows, MatchedRows
from fastnst.images.decode import Picture, load_image
from fastnst.images.large import DecodedRows, open_rows
from fastnst.images.pixels import Pixels, resize, scaled_size, to_tensor
from fastnst.images.rows import PixelRows, RowSource, StoredRows, TensorRows, digest
from fastnst.images.scaling import filled, room, scaled
from fastnst.inputs.masks import Masks, read_masks
from fastnst.inputs.matching import matched
from fastnst.objective.regions import Region
from fastnst.settings.settings import INITS, Settings
from fastnst.strips.storage import MemoryStore, Store

NOISE_MEAN, NOISE_STD = 0.5, 0.01  # docs/quality.md: of stronger noise, more survives

Styles: TypeAlias = "Picture | DecodedRows | Iterable[Picture | DecodedRows]"
PIXEL = 3 * 4  # bytes, float32
AREA = 3.0  # of a style picture at its default size, in areas of the result, at most


@dataclass(frozen=True)
class Sources:
    """The pictures of a run as they were decoded, read by rows: large ones lie in a store.

    Attributes:
        content: The content picture.
        styles: The style pictures, at least one.
        masks: Which style goes where, if there are masks.
        start: The picture that the optimisation starts from, if it starts from a picture.
    """

    content: DecodedRows
    styles: tuple[DecodedRows, ...]
    masks: Masks | None = None
    start: DecodedRows | None = None

    @property
    def pixels(self) -> int:
        """Pixels of those that are in memory, 12 bytes each."""
        pictures = [self.content, *self.styles, *([] if self.start is None else [self.start])]
        return sum(picture.pixels_in_memory for picture in pictures)

    def size(self, size: int) -> tuple[int, int]:
        """Width and height of a result with this long side; 0: the size of the content."""
        return scaled_size(self.content.width, self.content.height, size)

    def style_sizes(self, settings: Settings, size: int) -> list[tuple[int, int]]:
        """Width and height of each style picture, scaled for a result with this long side.

        Raises:
            InvalidInput: if the settings are for another number of style pictures.
        """
        settings.blend(len(self.styles))  # the one place where inputs are held to their number
        width, height = self.size(size)
        return [
            _style_size(style, index, settings, width, height)
            for index, style in enumerate(self.styles)
        ]

    def styles_held(self, settings: Settings, size: int) -> tuple[int, ...]:
        """Pixels of every style picture that is held for a result with this long side, scaled.

        The largest comes first. Where they are recoloured the originals are held as well.
        """
        sizes = [width * height for width, height in self.style_sizes(settings, size)]
        return tuple(sorted(sizes * _copies(settings), reverse=True))

    def scratch_bytes(self, settings: Settings, size: int) -> int:
        """Bytes that the pictures of a result with this long side take in a store, at most."""
        width, height = self.size(size)
        styles = [w * h for w, h in self.style_sizes(settings, size)]
        held = self.styles_held(settings, size)
        content = width * height * (3 if settings.color == "luminance" else 2)  # and the start
        total = content * PIXEL if width * height > large.WHOLE else 0
        total += sum(PIXEL * pixels for pixels in held if pixels > large.WHOLE)
        if settings.color == "match-histogram":  # colours and one axis of either picture in float64
            pairs = [(pixels, width * height) for pixels in styles]
            total += sum(4 * 8 * sum(pair) for pair in pairs if max(pair) > large.WHOLE)
        return total

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each picture that a result depends on, by what the picture is."""
        found = {"content picture": digest(self.content)}
        for k, style in enumerate(self.styles, start=1):
            name = "style picture" if len(self.styles) == 1 else f"style picture {k}"
            found[name] = digest(style)
        if self.masks is not None:
            found["mask"] = self.masks.digest()
        if self.start is not None:
            found["starting picture"] = digest(self.start)
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
    content: Picture | DecodedRows,
    style: Styles,
    content_mask: Picture | None = None,
    style_masks: Styles | None = None,
    cache: Cache | None = None,
    init: str = "noise",
    store: Store | None = None,
    largest: int = large.LARGEST,
) -> Sources:
    """Load the pictures of one run, each of them once: a pipe cannot be read again.

    Args:
        content: Anything that ``load_image`` takes.
        style: Anything that ``load_image`` takes, or several of such in any iterable.
        content_mask: A mask of the content picture, or None; see ``masks.py``.
        style_masks: A mask of the style picture, one for each style picture, or None.
        cache: The styles that earlier calls decoded, to be used again.
        init: The setting: a picture, unless it is one of ``INITS``.
        store: Where pictures of more than ``large.WHOLE`` pixels go; None: memory.
        largest: The most pixels of a file to decode, as for ``open_rows``. Masks are decoded
            whole.

    Raises:
        InvalidInput: for a picture that cannot be used, an empty list, or masks that do not fit.
        OutputFailed: if the store has no space.
    """
    store = store or MemoryStore()
    pixels = open_rows(content, store, largest, "content")
    styles = open_styles(style, store, largest, cache)
    masks = None
    given: list[tuple[Picture | DecodedRows, str]] = []
    if style_masks is not None and not (isinstance(style_masks, (list, tuple)) and not style_masks):
        given = _named(style_masks, "style mask")
    if content_mask is not None or given:
        masks = read_masks(
            None if content_mask is None else load_image(content_mask, "the content mask"),
            [_mask(picture, name) for picture, name in given],
            len(styles),
        )
    start = None if init in INITS else _load_start(init, store, largest)
    return Sources(pixels, styles, masks, start)


def open_styles(
    style: Styles, store: Store, largest: int = large.LARGEST, cache: Cache | None = None
) -> tuple[DecodedRows, ...]:
    """The style pictures of a run, decoded.

    Args:
        style: Anything that ``load_image`` takes, or several of such in any iterable.
        store: Where pictures of more than ``large.WHOLE`` pixels go.
        largest: The most pixels of a file to decode, as for ``open_rows``.
        cache: Those that earlier calls decoded, to be used again.

    Raises:
        InvalidInput: for a picture that cannot be used, or if there is none.
        OutputFailed: if the store has no space.
    """
    cache = cache or Cache()
    styles = tuple(
        cache.get(
            "styles", version(picture), functools.partial(open_rows, picture, store, largest, name)
        )
        for picture, name in _named(style, "style")
    )
    if not styles:
        raise InvalidInput("there is no style picture")
    return styles


def scale_pictures(
    sources: Sources,
    settings: Settings,
    size: int,
    store: Store | None = None,
    before: Tensor | None = None,
) -> Pictures:
    """Scale the pictures of a run, set their colours, and make the start.

    Args:
        sources: The pictures as they were decoded.
        settings: ``init``, ``seed``, ``color`` and how styles are scaled are read from here.
        size: Long side of the result in pixels; 0 keeps the content's own size.
        store: Where pictures of more than ``large.WHOLE`` pixels lie; None: memory.
        before: ``(1, 3, h, w)``, the result of the scale before, which the start is enlarged from;
            None: the start is what the settings say.

    Returns:
        The pictures, on the CPU.

    Raises:
        InvalidInput: if the settings are for another number of style pictures, or name a starting
            picture that cannot be used.
        OutputFailed: if the store has no space.
    """
    store = store or MemoryStore()
    style_sizes = sources.style_sizes(settings, size)
    width, height = sources.size(size)
    content = scaled(sources.content, width, height, store)
    styles = tuple(
        scaled(source, *style_size, store)
        for source, style_size in zip(sources.styles, style_sizes, strict=True)
    )
    regions = None
    if sources.masks is not None:
        sizes = [(style.shape[2], style.shape[3]) for style in styles]
        regions = sources.masks.at((height, width), sizes)
    colours = content if settings.color in ("original", "luminance") else None
    content, styles = _with_colour(content, styles, settings.color, store)
    if before is None:
        start = _start(content, styles, regions, settings, sources.start, store)
    else:
        start = scaled(TensorRows(before), width, height, store)
    return Pictures(content, styles, start, regions, colours)


def with_content(pictures: Pictures, content: Pixels, settings: Settings) -> Pictures:
    """The pictures of the next frame of a film: another content, the styles as they were.

    Args:
        pictures: Those of a frame before.
        content: The frame, ``(H, W, 3)``; it is scaled to their size.
        settings: ``color`` is read.

    Returns:
        The pictures on their device, with the content as the start.
    """
    device = pictures.content.device
    height, width = pictures.content.shape[-2:]
    own = to_tensor(resize(content, width, height)).to(device)
    colours = own if settings.color in ("original", "luminance") else None
    seen = grey(own) if settings.color == "luminance" else own
    return Pictures(seen, pictures.styles, seen, pictures.regions, colours)


def _named(pictures: Styles, label: str) -> list[tuple[Picture | DecodedRows, str]]:
    """Each picture with what messages call it: ``label``, with a number if there are several."""
    several = _several(pictures, label)
    names = [label] if len(several) == 1 else [f"{label} {k}" for k in range(1, len(several) + 1)]
    return list(zip(several, names, strict=True))


def _mask(picture: Picture | DecodedRows, label: str) -> Pixels:
    source = open_rows(picture, MemoryStore(), label=label)
    return source.rows(0, source.height)


def _several(pictures: Styles, label: str) -> list[Picture | DecodedRows]:
    """One picture or any iterable of pictures, a generator too, as a list."""
    if isinstance(pictures, (str, os.PathLike, Image.Image, np.ndarray, Tensor)):
        return [pictures]
    if isinstance(pictures, (PixelRows, StoredRows)):
        return [pictures]
    try:
        if isinstance(pictures, io.IOBase):
            raise TypeError  # it would give lines
        return list(pictures)
    except TypeError as error:
        raise InvalidInput(
            f"{label} is of type {type(pictures).__name__}: expected a path, a PIL image, an "
            "array, a tensor, or several of these"
        ) from error


def _with_colour(
    content: Tensor, styles: tuple[Tensor, ...], color: str, store: Store
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Content and styles in the colours that the objective is to see."""
    whole, parts = TensorRows(content), [TensorRows(style) for style in styles]
    recoloured: list[RowSource]
    if color == "luminance":
        recoloured = [GreyRows(part, whole) for part in parts]
        content = filled(GreyRows(whole), store)
    elif color == "match-covariance":
        recoloured = [MatchedRows(part, [whole]) for part in parts]
    elif color == "match-histogram":
        recoloured = [_histogram_matched(part, whole, store) for part in parts]
    else:
        return content, styles
    return content, tuple(filled(part, store) for part in recoloured)


def _histogram_matched(style: RowSource, content: RowSource, store: Store) -> RowSource:
    pixels = max(picture.height * picture.width for picture in (style, content))
    return HistogramMatchedRows(style, content, store if pixels > large.WHOLE else MemoryStore())


def version(picture: Picture | DecodedRows) -> Hashable:
    """A key that tells a picture from others, and a file from what it was before it changed.

    A name that is no file's, as one that is built in, is told by itself.
    """
    if not isinstance(picture, (str, os.PathLike)):
        return object()  # equal to nothing: it may change in place
    path = Path(picture)
    try:
        stat = path.stat()
    except (OSError, ValueError):  # decoding says what is wrong with it
        return os.fspath(picture)
    return path.resolve(), stat.st_mtime_ns, stat.st_size


def white_noise(like: Tensor, seed: int) -> Tensor:
    """White noise N(``NOISE_MEAN``, ``NOISE_STD``²), clamped to [0, 1], of ``like``'s shape.

    The network hardly sees the finest differences of colour, so whatever the start has of them is
    there at the end: noise of a large amplitude survives as coloured grain.
    """
    return _noise(tuple(like.shape), seed, MemoryStore())


def _noise(shape: tuple[int, ...], seed: int, store: Store) -> Tensor:
    one, channels, height, width = shape
    noise, _ = room((one, channels, height, width), store)
    generator = torch.Generator().manual_seed(seed)
    torch.randn(noise.shape, generator=generator, dtype=torch.float32, device="cpu", out=noise)
    return noise.mul_(NOISE_STD).add_(NOISE_MEAN).clamp_(0, 1)


def _copies(settings: Settings) -> int:
    """How often a style picture is held before the optimisation: once more where recoloured."""
    return 2 if settings.color in ("luminance", "match-covariance", "match-histogram") else 1


def _style_size(
    style: RowSource, index: int, settings: Settings, width: int, height: int
) -> tuple[int, int]:
    """Width and height of a style picture, for a result of ``width`` × ``height``.

    At its default size it has the long side of the result, but no more than ``AREA`` times its
    area: only beside results that are longer than 3:1 does that make it smaller.
    """
    factor = settings.style_scale[index if len(settings.style_scale) > 1 else 0]
    if settings.style_fit == "content":
        return max(1, round(width * factor)), max(1, round(height * factor))
    own_width, own_height = style.width, style.height
    own_side = max(own_width, own_height)
    if settings.style_size is None:
        own_aspect = own_side / min(own_width, own_height)
        side = min(max(width, height), (AREA * width * height * own_aspect) ** 0.5)
    else:
        side = settings.style_size or own_side
    return scaled_size(own_width, own_height, max(1, round(side * factor)))


def _start(
    content: Tensor,
    styles: Sequence[Tensor],
    regions: Sequence[Region] | None,
    settings: Settings,
    picture: RowSource | None,
    store: Store,
) -> Tensor:
    """The picture that the optimisation starts from, of the size of the content.

    Args:
        content: The content at the size of the result.
        styles: The styles, scaled.
        regions: Which style goes where; None: all of them everywhere.
        settings: ``init``, ``seed`` and how styles are blended are read.
        picture: The picture that ``init`` names, if it names one.
        store: Where the start lies if it is large.
    """
    whole = TensorRows(content)
    if settings.init == "noise":
        return _noise(tuple(content.shape), settings.seed, store)
    if settings.init == "content":
        return filled(whole, store)
    if settings.init == "matched":
        return filled(matched(content, styles, settings.blend(len(styles)), regions), store)
    assert picture is not None  # decoded with the others
    return scaled(picture, content.shape[3], content.shape[2], store)


def _load_start(init: str, store: Store, largest: int) -> DecodedRows:
    try:
        return open_rows(init, store, largest)
    except InvalidInput as error:
        raise InvalidInput(f"init: {error} (or use noise, content or matched)") from error
