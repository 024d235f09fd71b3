"""From a picture's own colours to sRGB: embedded ICC profiles, and gamma and primaries of a PNG."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from fastnst.errors import InvalidInput
from fastnst.images.pixels import Pixels

# Chromaticities x, y of white, red, green and blue (ITU-R BT.709, white D65).
BT709 = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
PRIMARIES = {  # by their numbers in H.273: those of BT.709, BT.2020 and Display P3
    1: BT709,
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_HDR = {16: "PQ", 18: "HLG"}  # transfer functions by their numbers there
SCREEN_GAMMA = 2.2
ALIKE = 0.05  # a gamma this near to the screen's needs no correction (libpng's threshold)
_ROWS = 256  # at a time, to bound the memory of what lies between
_SPACES = {"RGB": b"RGB ", "RGBA": b"RGB ", "L": b"GRAY", "CMYK": b"CMYK"}


@dataclass(frozen=True)
class Colours:
    """What a file says about its colours.

    Attributes:
        profile: An ICC profile, which precedes the others; or None.
        gamma: The exponent with which light was encoded (1 for linear, 0.45455 as a rule), or None.
        primaries: Chromaticities as in ``BT709``, or None for those.
    """

    profile: bytes | None = None
    gamma: float | None = None
    primaries: tuple[float, ...] | None = None


def refuse_hdr(transfer: int | None) -> None:
    """Refuse a picture by its transfer function, a number of H.273; None: it names none.

    Raises:
        InvalidInput: for one that has no white.
    """
    if transfer in _HDR:
        raise InvalidInput(
            f"is HDR ({_HDR[transfer]}), which has no white: map its tones and save it"
        )


def apply_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An 8-bit image in sRGB, mode RGB or RGBA where its profile was applied.

    A profile that is broken or does not fit the image is ignored.

    Args:
        image: Of mode L, LA, RGB, RGBA or CMYK.
        profile: Its ICC profile, or None.
    """
    space = (profile or b"")[16:20]
    if not profile or space not in _SPACES.values():
        return image
    if image.mode == "LA":
        converted = apply_profile(image.getchannel("L"), profile)
        if converted.mode == "L":
            return image
        converted.putalpha(image.getchannel("A"))
        return converted
    if image.mode == "L" and space == b"RGB ":
        image = image.convert("RGB")
    if _SPACES.get(image.mode) != space:
        return image
    try:
        after = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            outputMode="RGBA" if image.mode == "RGBA" else "RGB",
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    return image if after is None else after


def lab_to_srgb(image: Image.Image) -> Image.Image:
    """An image of mode LAB (CIE L*a*b*, D50) in sRGB."""
    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    return image.convert("RGB") if converted is None else converted


def to_srgb(values: Pixels, colours: Colours) -> Pixels:
    """The colours of a picture in sRGB.

    Args:
        values: ``(H, W, 1)`` or ``(H, W, 3)`` in [0, 1]; it may be overwritten.
        colours: How to read them. Where a profile is not sRGB's own or a curve for greys, it is
            applied with 8 bits, which is what the colour management at hand computes with.

    Returns:
        ``(H, W, 1)`` or ``(H, W, 3)`` in [0, 1].
    """
    if colours.profile is not None:
        return _with_profile(values, colours.profile)
    matrix = _to_bt709(colours.primaries) if values.shape[2] == 3 else None
    gamma = colours.gamma
    if gamma is not None and abs(gamma * SCREEN_GAMMA - 1) < ALIKE:
        gamma = None
    if gamma is None and matrix is None:
        return values
    for at in range(0, values.shape[0], _ROWS):
        rows = values[at : at + _ROWS].astype(np.float64)
        light: NDArray[np.float64] = _decode(rows) if gamma is None else rows ** (1 / gamma)
        values[at : at + _ROWS] = _encode(light if matrix is None else light @ matrix.T)
    return values


def _with_profile(values: Pixels, profile: bytes) -> Pixels:
    if values.shape[2] == 1:
        ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        curve = apply_profile(ramp, profile)
        if curve.mode == "L":
            return values
        levels = np.asarray(curve, np.float32)[0] / 255
        grid = np.linspace(0, 1, 256)
        planes = [np.interp(values[..., 0], grid, levels[:, c]) for c in range(3)]
        return np.stack(planes, axis=-1).astype(np.float32)
    if _changes_nothing(profile):
        return values
    image = Image.fromarray((values * 255).round().astype(np.uint8))
    after: Pixels = np.array(apply_profile(image, profile), np.float32) / np.float32(255)
    return after


@functools.lru_cache(maxsize=16)
def _changes_nothing(profile: bytes) -> bool:
    """Whether a profile for RGB is that of sRGB, to a level of 8 bits: then 16 bits are kept."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    after = np.asarray(apply_profile(Image.fromarray(cube), profile), np.int16)
    return bool(np.abs(after - cube).max() <= 1)


def _decode(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """From sRGB to light (IEC 61966-2-1)."""
    curve: NDArray[np.float64] = np.where(
        values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4
    )
    return curve


def _encode(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """From light to sRGB (IEC 61966-2-1), clipped to [0, 1]."""
    light = light.clip(0, 1)
    curve: NDArray[np.float64] = np.where(
        light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055
    )
    return curve.clip(0, 1)


def _to_bt709(primaries: tuple[float, ...] | None) -> NDArray[np.float64] | None:
    """What takes light in other primaries to BT.709's; None if they are those, or impossible."""
    if primaries is None or np.allclose(primaries, BT709, atol=0.002):
        return None
    try:
        there, here = _to_xyz(primaries), _to_xyz(BT709)
        matrix = np.linalg.solve(here, _adapted(there, here)).astype(np.float64)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
    return matrix if np.isfinite(matrix).all() and np.abs(matrix).max() < 100 else None


def _to_xyz(primaries: tuple[float, ...]) -> NDArray[np.float64]:
    """The matrix from RGB light to XYZ whose white has Y = 1."""
    xyz = [
        (x / y, 1.0, (1 - x - y) / y) for x, y in zip(primaries[::2], primaries[1::2], strict=True)
    ]
    white, columns = np.array(xyz[0]), np.array(xyz[1:]).T
    scaled: NDArray[np.float64] = columns * np.linalg.solve(columns, white)
    return scaled


def _adapted(matrix: NDArray[np.float64], to: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix to XYZ with its white moved to another's (Bradford)."""
    cone = np.array(
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    ratio = (cone @ to.sum(axis=1)) / (cone @ matrix.sum(axis=1))
    moved: NDArray[np.float64] = np.linalg.solve(cone, ratio[:, None] * (cone @ matrix))
    return moved
