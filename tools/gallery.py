"""Render the pictures of the documentation from the built-in samples.

    python tools/gallery.py [--size 224] [--only NAME]

Writes docs/images/gallery/*.jpg. About two minutes on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fastnst import make_settings
from fastnst.images import load_image, resize, save_image, scaled_size
from fastnst.kept import Kept
from fastnst.samples import SAMPLES
from fastnst.stylize import run

FOLDER = Path(__file__).parent.parent / "docs" / "images" / "gallery"
STYLES = [name for name, sample in SAMPLES.items() if sample.kind == "style"]
CONTENT, STYLE = "harbour", "swirl"
DEFAULTS = {"iterations": 150}
# name of the picture: (content, style, what differs from the defaults)
PICTURES: dict[str, tuple[str, str, dict[str, object]]] = {
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
}


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
    kept = Kept()
    for name, (content, style, changes) in PICTURES.items():
        if options.only and options.only not in name:
            continue
        settings = make_settings("gatys", {"size": options.size, **DEFAULTS, **changes})
        result = run(f"sample:{content}", f"sample:{style}", settings, kept=kept)
        result.save(FOLDER / f"{name}.jpg")
        print(f"{name}: loss {result.losses.total:.4g}, {result.seconds:.0f} s")
        if name == f"{CONTENT}-{STYLE}":
            result.plot().savefig(FOLDER / "plot.jpg", dpi=85)


if __name__ == "__main__":
    main()
