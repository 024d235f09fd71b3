"""Draw the film of docs/video.md: ``python tools/film.py docs/images/film.gif [WIDTH [FRAMES]]``.

A moving scene, drawn by the package, and below it the same stylised. Takes about a minute.
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

import fastnst
from fastnst import samples
from fastnst.samples.moving import MovingScene


def main(path: str, width: int = 128, count: int = 7) -> None:
    scene = MovingScene(width, width * 3 // 4)
    frames = [scene.frame(k) for k in range(count)]
    film = fastnst.stylize_video(frames, samples.load("swirl"), preset="fast", size=0)
    pairs = [np.concatenate((frames[f.frame.index], f.pixels)) for f in film]
    levels = [Image.fromarray((pair * 255).round().astype(np.uint8)) for pair in pairs]
    palette = levels[0].quantize(128)
    shown = [level.quantize(palette=palette, dither=Image.Dither.NONE) for level in levels]
    there_and_back = [*shown, *shown[-2:0:-1]]
    there_and_back[0].save(path, save_all=True, append_images=there_and_back[1:], duration=100)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
