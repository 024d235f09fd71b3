"""Render the pictures of the documentation from the built-in samples.

    python tools/gallery.py [--size 224] [--only NAME]

Writes docs/images/gallery/*.jpg. About two minutes on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastnst import make_settings
from fastnst.api import run_texture
from fastnst.cache import Cache
from fastnst.images.decode import load_image
from fastnst.images.encode import save_image
from fastnst.images.pixels import resize, scaled_size
from fastnst.run.run import run
from fastnst.samples import SAMPLES

FOLDER = Path(__file__).parent.parent / "docs" / "images" / "gallery"
STYLES = [name for name, sample in SAMPLES.items() if sample.kind == "style"]
CONTENT, STYLE = "harbour", "swirl"
DEFAULTS = {"iterations": 150}
SECOND = "poppies"  # the other style where there are two
# name of the picture: (content, styles, what differs from the defaults); no content: a texture
PICTURES: dict[str, tuple[str | None, str | tuple[str, str], dict[str, object]]] = {
    **{f"{CONTENT}-{style}": (CONTENT, style, {}) for style in STYLES},
    "lighthouse-waves": ("lighthouse", "waves", {}),
    "mountains-ink": ("mountains", "ink", {}),
    "style-weight-1": (CONTENT, STYLE, {"style_weight": 1.0}),
    "style-weight-100": (CONTENT, STYLE, {"style_weight": 100.0}),
    "init-content": (CONTENT, STYLE, {"init": "content", "iterations": 60}),
    "init-matched": (CONTENT, STYLE, {"init": "matched", "iterations": 60}),
    "iterations-30": (CONTENT, STYLE, {"iterations": 30}),
    "iterations-75": (CONTENT, STYLE, {"iterations": 75}),
    "tv-weight": (CONTENT, STYLE, {"tv_weight": 200.0}),
    "shallow": (CONTENT, STYLE, {"style_layers": ("relu1_1", "relu2_1")}),
    "blend": (CONTENT, (STYLE, SECOND), {"style_blend": (1.0, 3.0)}),
    "regions": (CONTENT, (STYLE, SECOND), {}),
    "color-original": (CONTENT, STYLE, {"color": "original"}),
    "color-luminance": (CONTENT, STYLE, {"color": "luminance"}),
    "color-match-covariance": (CONTENT, STYLE, {"color": "match-covariance"}),
    "scales": (CONTENT, STYLE, {"min_size": 112, "scale_iterations": (75,), "init": "matched"}),
    "texture": (None, STYLE, {"content_weight": 0.0}),
}


def sky_mask(height: int = 90, width: int = 120) -> NDArray[np.float32]:
    """White above, black below, with a soft edge; ``(H, W, 3)``."""
    rows = np.clip((0.45 - np.linspace(0, 1, height)) / 0.1 + 0.5, 0, 1)
    mask: NDArray[np.float32] = np.empty((height, width, 3), np.float32)
    mask[:] = rows[:, None, None]
    return mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--only", help="of the pictures, those whose name has this in it")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in SAMPLES:
        pixels = load_image(f"sample:{name}")
        height, width, _ = pixels.shape
        small = resize(pixels, *scaled_size(width, height, options.size))
        save_image(small, FOLDER / f"sample-{name}.jpg")
    kept = Cache()
    for name, (content, style, changes) in PICTURES.items():
        if options.only and options.only not in name:
            continue
        settings = make_settings("gatys", {"size": options.size, **DEFAULTS, **changes})
        styles = [f"sample:{name}" for name in ((style,) if isinstance(style, str) else style)]
        if content is None:
            result = run_texture(styles, settings)
        else:
            mask = sky_mask() if name == "regions" else None
            result = run(f"sample:{content}", styles, settings, content_mask=mask, cache=kept)
        result.save(FOLDER / f"{name}.jpg")
        print(f"{name}: loss {result.losses.total:.4g}, {result.seconds:.0f} s")
        if name == f"{CONTENT}-{STYLE}":
            result.plot().savefig(FOLDER / "plot.jpg", dpi=85)


if __name__ == "__main__":
    main()
