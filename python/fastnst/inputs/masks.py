"""From masks, as people paint them, to regions.

A mask is a picture of any size. A grey mask is soft: white belongs to a region, black does not, and
grey does in part. A mask in plain colours is hard: each colour is a region. The same colour in a
style mask marks the part of that style picture that the region gets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fastnst.errors import InvalidInput
from fastnst.images.colour import LUMINANCE
from fastnst.images.pixels import Pixels, to_tensor
from fastnst.objective.regions import Region

Colour: TypeAlias = "tuple[int, int, int]"
Map: TypeAlias = "NDArray[np.float32]"  # (H, W), membership in [0, 1]

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
GREY = 12  # channels of a grey pixel differ by less: JPEG adds some colour
ALIKE = 60  # colours whose channels differ by less are one: edges are smoothed, JPEG shifts
SMALLEST = 0.002  # of the area: fewer pixels of a colour are an edge, not a region
PLAIN = 0.7  # of the area at least is exactly of one colour or another, as JPEG leaves it
MOST = 16  # regions of one mask


@dataclass(frozen=True)
class Masks:
    """Which style goes where, at the resolution of the masks.

    Attributes:
        regions: For each region its name, its map over the content picture (None: all of it) and
            ``{index of a style picture: its map (None: all of it)}``.
    """

    regions: tuple[tuple[str, Map | None, dict[int, Map | None]], ...]

    def digest(self) -> str:
        """SHA-256 of all maps and of what each is for."""
        hashed = hashlib.sha256()
        for name, where, of in self.regions:
            for index, values in ((-1, where), *of.items()):
                hashed.update(f"{name} {index} {None if values is None else values.shape}".encode())
                hashed.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
        return hashed.hexdigest()

    def at(self, content: tuple[int, int], styles: Sequence[tuple[int, int]]) -> tuple[Region, ...]:
        """The regions for pictures of the given heights and widths, by area averages."""
        return tuple(
            Region(
                {k: None if m is None else _scaled(m, styles[k]) for k, m in of.items()},
                None if where is None else _scaled(where, content),
                name,
            )
            for name, where, of in self.regions
        )


def read_masks(content_mask: Pixels | None, style_masks: Sequence[Pixels], styles: int) -> Masks:
    """Find the regions and the styles that go to each.

    With style masks, a region of the content gets the styles that have its colour in their masks.
    Without them the styles go to the regions in order, brightest first and black last; black may be
    left without a style. Without a content mask, all but the black of each style counts everywhere.

    Args:
        content_mask: ``(H, W, 3)`` in [0, 1], or None.
        style_masks: One for each style picture, or none.
        styles: How many style pictures there are.

    Raises:
        InvalidInput: if the masks have too many colours, or regions and styles do not fit together.
    """
    if style_masks and len(style_masks) != styles:
        raise InvalidInput(
            f"there are {len(style_masks)} style masks for {styles} style pictures: "
            "give one for each"
        )
    parts = [colour_regions(m, f"style mask {k}") for k, m in enumerate(style_masks, start=1)]
    if content_mask is None:
        coloured = [
            sum((m for c, m in part.items() if c != BLACK), np.float32(0)) for part in parts
        ]
        for k, found in enumerate(coloured, start=1):
            if not np.any(found):
                raise InvalidInput(f"style mask {k} is all black: nothing of the style would count")
        return Masks((("the picture", None, dict(enumerate(coloured))),))
    found = colour_regions(content_mask, "the content mask")
    order = sorted(found, key=_brightness, reverse=True)
    if style_masks:
        return Masks(tuple(_by_colour(order, found, parts)))
    return Masks(tuple(_in_order(order, found, styles)))


def colour_regions(mask: Pixels, label: str) -> dict[Colour, Map]:
    """The regions of a mask.

    Args:
        mask: ``(H, W, 3)`` in [0, 1].
        label: What to call it in messages.

    Returns:
        ``{colour: (H, W)}``, in [0, 1] with sum 1 at each pixel. A grey mask has white and black.

    Raises:
        InvalidInput: for a picture with too many colours to be a mask.
    """
    values = (mask * 255).round().astype(np.int16)
    if np.mean(np.ptp(values, axis=2) > GREY) < SMALLEST:
        white = mask.mean(axis=2, dtype=np.float32)
        maps: dict[Colour, Map] = {WHITE: white, BLACK: 1 - white}
        # A small spot is meant, however small; what JPEG leaves in black is not.
        return {c: m for c, m in maps.items() if m.mean() > 1e-4 or m.max() > 0.5}
    colours = _palette(values)
    distances = np.stack([np.abs(values - np.array(c, np.int16)).max(axis=2) for c in colours])
    if len(colours) > MOST or np.mean(distances.min(axis=0) <= GREY) < PLAIN:
        raise InvalidInput(
            f"{label} is no mask: expected a grey picture, or one painted in 1 to {MOST} plain "
            "colours"
        )
    nearest = distances.argmin(axis=0)
    return {colour: (nearest == i).astype(np.float32) for i, colour in enumerate(colours)}


def _palette(values: NDArray[np.int16]) -> list[Colour]:
    """The colours with the most pixels, each unlike those before it; ``(H, W, 3)`` of 0–255.

    Pixels unlike a neighbour are left out: they mix the colours of two regions.
    """
    p = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    neighbours = (p[2:, 1:-1], p[:-2, 1:-1], p[1:-1, 2:], p[1:-1, :-2])
    plain = np.all([np.abs(n - values).max(axis=2) <= GREY for n in neighbours], axis=0)
    flat = values[plain] if plain.any() else values.reshape(-1, 3)
    bins, where, counts = np.unique(flat // 8, axis=0, return_inverse=True, return_counts=True)
    found: list[Colour] = []
    for index in np.argsort(-counts, kind="stable"):
        if found and (counts[index] < SMALLEST * len(flat) or len(found) > MOST):
            break
        if not any(_alike(colour, tuple(bins[index] * 8 + 4)) for colour in found):
            r, g, b = (int(v) for v in np.median(flat[where.reshape(-1) == index], axis=0))
            found.append((r, g, b))
    return [_pure(colour) for colour in found]


def _pure(colour: Colour) -> Colour:
    """The colour, or white or black where it is near enough to be that, changed by JPEG."""
    for pure in (WHITE, BLACK):
        if max(abs(a - b) for a, b in zip(colour, pure, strict=True)) <= GREY:
            return pure
    return colour


def _alike(a: Sequence[int], b: Sequence[int]) -> bool:
    return max(abs(int(x) - int(y)) for x, y in zip(a, b, strict=True)) < ALIKE


def _by_colour(
    order: Sequence[Colour], found: dict[Colour, Map], parts: Sequence[dict[Colour, Map]]
) -> list[tuple[str, Map | None, dict[int, Map | None]]]:
    regions: list[tuple[str, Map | None, dict[int, Map | None]]] = []
    for colour in order:
        styles: dict[int, Map | None] = {}
        for k, part in enumerate(parts):
            match = min(part, key=lambda c: max(abs(x - y) for x, y in zip(c, colour, strict=True)))
            if _alike(match, colour):
                styles[k] = part[match]
        if styles:
            regions.append((_name(colour), found[colour], styles))
        elif colour != BLACK:
            raise InvalidInput(f"{_name(colour)} of the content mask is in no style mask")
    if not regions:
        raise InvalidInput("no colour of the content mask is in a style mask")
    return regions


def _in_order(
    order: Sequence[Colour], found: dict[Colour, Map], styles: int
) -> list[tuple[str, Map | None, dict[int, Map | None]]]:
    coloured = [colour for colour in order if colour != BLACK]
    if not coloured and styles == 1:
        raise InvalidInput(
            "the content mask is all black: no part of the picture would get the style"
        )
    if styles == len(order):
        coloured = list(order)
    if styles != len(coloured):
        names = ", ".join(_name(colour) for colour in order)
        raise InvalidInput(
            f"the content mask has {len(order)} regions ({names}) for {styles} style picture"
            f"{'s' if styles != 1 else ''}: give one style for each in this order (black may be "
            "left without), or style masks"
        )
    return [(_name(colour), found[colour], {k: None}) for k, colour in enumerate(coloured)]


def _brightness(colour: Colour) -> tuple[float, Colour]:
    """Its luminance, in which red, green and blue are far apart."""
    return sum(w * v for w, v in zip(LUMINANCE, colour, strict=True)), colour


def _name(colour: Colour) -> str:
    names = {WHITE: "white", BLACK: "black"}
    return "region " + names.get(colour, "#{:02x}{:02x}{:02x}".format(*colour))


def _scaled(membership: Map, size: tuple[int, int]) -> Tensor:
    image = Image.fromarray(membership).resize((size[1], size[0]), Image.Resampling.BOX)
    return to_tensor(np.asarray(image)[..., None])[0, 0]
