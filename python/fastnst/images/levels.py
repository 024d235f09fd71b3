"""What decoders hand over: stored levels with what white is, and how they become RGB in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastnst.errors import InvalidInput
from fastnst.images.exif import upright
from fastnst.images.pixels import Pixels
from fastnst.images.srgb import Colours, apply_profile, lab_to_srgb, to_srgb

SMALL = 0.004  # a level of 8 bits: what resampling may add beyond black and white in a float file
DARKEST_255 = 64  # a float picture over 0-255 has a level of at least this somewhere


@dataclass(frozen=True)
class Levels:
    """A decoded picture as it is stored.

    Attributes:
        values: ``(H, W, C)``: grey or RGB, and alpha as channel 2 or 4 of them.
        white: The level of white (and of what is opaque).
        colours: How the levels are to be read.
        premultiplied: Whether the colours are multiplied with alpha.
        inverted: Whether 0 is white.
    """

    values: NDArray[Any]
    white: float
    colours: Colours = field(default_factory=Colours)
    premultiplied: bool = False
    inverted: bool = False

    def pixels(self) -> Pixels:
        """``(H, W, 3)`` float32, sRGB in [0, 1], alpha composited on white."""
        channels = self.values.shape[2]
        colour = self.values[..., : 1 if channels < 3 else 3]
        found = (colour / np.float32(self.white)).astype(np.float32, copy=False).clip(0, 1)
        if self.inverted:
            np.subtract(1, found, out=found)
        alpha = None
        if channels in (2, 4):
            alpha = (self.values[..., -1:] / np.float32(self.white)).astype(np.float32).clip(0, 1)
            if self.premultiplied:
                found = (found / np.maximum(alpha, np.float32(1e-6))).clip(0, 1)
        found = to_srgb(found, self.colours)
        if alpha is not None:
            found *= alpha
            found += 1 - alpha
        return found.repeat(3, axis=2) if found.shape[2] == 1 else np.ascontiguousarray(found)


@dataclass(frozen=True)
class Opened:
    """A picture file whose header was read.

    Attributes:
        width: As stored, in pixels.
        height: As stored, in pixels.
        load: Decodes the pixels.
        orientation: How they are to be turned, 1 to 8 as in EXIF.
    """

    width: int
    height: int
    load: Callable[[], Levels]
    orientation: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as shown."""
        turned = self.orientation >= 5
        return (self.height, self.width) if turned else (self.width, self.height)

    def pixels(self) -> Pixels:
        """Decode: ``(H, W, 3)`` float32, sRGB in [0, 1]."""
        return np.ascontiguousarray(upright(self.load().pixels(), self.orientation))


class TooLarge(InvalidInput):
    """A picture with more pixels than are decoded in one go."""


def check_size(width: int, height: int) -> None:
    """Refuse, before anything is decoded, a picture that would fill the memory.

    Raises:
        InvalidInput: if it has no pixels.
        TooLarge: if it has more than twice ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    if min(width, height) < 1:
        raise InvalidInput("has no pixels")
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    if limit and width * height > limit:
        raise TooLarge(
            f"has more than {limit / 1e6:.0f} megapixels, which is more than is decoded; "
            "scale it down first"
        )


def levels_of(image: Image.Image, colours: Colours) -> Levels:
    """The levels of a PIL image of any mode; an 8-bit one has its profile applied already.

    Raises:
        InvalidInput: for floats of which it cannot be told what is white.
    """
    if image.mode == "F":
        return of_floats(np.asarray(image), colours)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Levels(np.asarray(image)[..., None], 65535.0, colours)
    if image.mode == "LAB":
        return Levels(np.asarray(lab_to_srgb(image)), 255.0)
    transparent = "transparency" in image.info or image.mode in ("LA", "PA", "La", "RGBA", "RGBa")
    wanted = {"1": "L", "L": "L", "La": "LA", "LA": "LA", "CMYK": "CMYK"}.get(image.mode, "RGB")
    if transparent and wanted != "LA":
        wanted = "RGBA"
    eight = apply_profile(
        image if image.mode == wanted else _converted(image, wanted), colours.profile
    )
    if eight.mode == "CMYK":
        eight = eight.convert("RGB")
    values = np.asarray(eight)
    rest = Colours(None, colours.gamma, colours.primaries)
    return Levels(values[..., None] if values.ndim == 2 else values, 255.0, rest)


def of_floats(values: NDArray[Any], colours: Colours, premultiplied: bool = False) -> Levels:
    """The levels of a float picture: over 0 to 1, or over 0 to 255 if that can be told.

    Args:
        values: ``(H, W)`` or ``(H, W, C)``.
        colours: How they are to be read.
        premultiplied: Whether the colours are multiplied with alpha.

    Raises:
        InvalidInput: if they are not finite, or over another range.
    """
    if not np.isfinite(values).all():
        raise InvalidInput("holds NaN or infinity")
    white = white_of_floats(float(values.min()), float(values.max()))
    return Levels(values[..., None] if values.ndim == 2 else values, white, colours, premultiplied)


def white_of_floats(smallest: float, largest: float) -> float:
    """What is white in a float picture: 1 or 255.

    Args:
        smallest: Its smallest value.
        largest: Its largest value.

    Raises:
        InvalidInput: if it is over another range.
    """
    white: float | None
    if smallest < -SMALL * max(1.0, largest):
        white = None
    elif largest <= 1 + SMALL:
        white = 1.0
    else:
        white = 255.0 if DARKEST_255 <= largest <= 255 * (1 + SMALL) else None
    if white is None:
        raise InvalidInput(
            f"holds floats from {smallest:g} to {largest:g}, of which it cannot be told what is "
            "white: expected 0 to 1 or 0 to 255; map its tones and save it as a 16-bit PNG or TIFF"
        )
    return white


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "RGBa":
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)
