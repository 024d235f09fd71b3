"""Pictures side by side with their names above them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

GAP = 6  # pixels
LINE = 18  # pixels of a line of text
FONT = 13


def strip(title: str, pictures: Mapping[str, Image.Image]) -> Image.Image:
    """A row of pictures, pixel by pixel as they are, under a title and each under its name.

    A picture that is higher than the first is reduced to the first one's height.
    """
    height = next(iter(pictures.values())).height
    shown = {
        name: picture if picture.height <= height else _reduced(picture, height)
        for name, picture in pictures.items()
    }
    font = ImageFont.load_default(FONT)
    widths = [
        max(picture.width, round(font.getlength(name)) + 2) for name, picture in shown.items()
    ]
    sheet = Image.new(
        "RGB", (sum(widths) + GAP * (len(widths) + 1), height + 2 * LINE + GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 1), title, "black", font)
    left = GAP
    for (name, picture), width in zip(shown.items(), widths, strict=True):
        draw.text((left, LINE), name, "black", font)
        sheet.paste(picture, (left, 2 * LINE))
        left += width + GAP
    return sheet


def stack(strips: Sequence[Image.Image]) -> Image.Image:
    """Strips one below the other."""
    width, height = max(x.width for x in strips), sum(x.height for x in strips)
    sheet = Image.new("RGB", (width, height), "white")
    top = 0
    for one in strips:
        sheet.paste(one, (0, top))
        top += one.height
    return sheet


def write(folder: Path, name: str, title: str, pictures: Mapping[str, Image.Image]) -> None:
    """Add a strip to a folder's sheet: ``NAME.png`` of its own, and all of them in ``sheet.png``.

    Args:
        folder: It is made if it is missing.
        name: Of the strip's file; one of that name is replaced.
        title: Above the strip.
        pictures: By what each is called.
    """
    strips = folder / "strips"
    strips.mkdir(parents=True, exist_ok=True)
    strip(title, pictures).save(strips / f"{name}.png")
    found = [Image.open(path).convert("RGB") for path in sorted(strips.glob("*.png"))]
    stack(found).save(folder / "sheet.png")


def _reduced(picture: Image.Image, height: int) -> Image.Image:
    width = max(1, round(picture.width * height / picture.height))
    return picture.resize((width, height), Image.Resampling.LANCZOS)
