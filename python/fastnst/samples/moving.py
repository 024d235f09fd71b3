"""A moving scene, drawn: a camera pans and zooms over a built-in picture, a ball flies across.

Its optical flow is known exactly, and so is what the ball covers and uncovers. Nothing is read from
disk: a clip to try films on, and to measure them by.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastnst import samples

Array = NDArray[np.float32]
VIEW = 0.62  # of the picture's width, that the camera sees at zoom 1
SHARP = 1.15  # pixels of the picture for a pixel of a frame
BALL = 0.16  # radius, in heights of a frame


@dataclass(frozen=True)
class MovingScene:
    """The frames 0, 1, … of a moving scene, all drawn on demand.

    Attributes:
        width: Width of a frame in pixels.
        height: Height of a frame in pixels.
        pan: How far the camera moves right and down in a frame, in pixels.
        zoom: By what the scene grows in a frame.
        ball: How far the ball moves right and down in a frame, in pixels; None: there is none.
        picture: The built-in picture that the camera looks at.
        paint: The built-in picture that the ball is painted with.
    """

    width: int
    height: int
    pan: tuple[float, float] = (2.3, 0.7)
    zoom: float = 1.004
    ball: tuple[float, float] | None = (-3.4, 1.2)
    picture: str = "harbour"
    paint: str = "mosaic"

    def frame(self, index: int) -> Array:
        """A frame, ``(H, W, 3)`` float32 in [0, 1]."""
        scene = self._look(_scaled(self.picture, self.width * SHARP / VIEW), self._at(index))
        if self.ball is None:
            return scene
        paint = _scaled(self.paint, 3 * BALL * self.height)
        x, y = self._centre(index)
        shift = (1.0, 1.0, paint.width / 2 - x, paint.height / 2 - y)
        covered = self._ball(index).clip(0, 1)[..., None]
        drawn: Array = scene * (1 - covered) + self._look(paint, shift) * covered
        return drawn

    def flow(self, first: int, second: int) -> Array:
        """How far right and down of itself each pixel of a frame is in another, ``(H, W, 2)``."""
        x, y = self._grid()
        sx, sy, ox, oy = self._at(first)
        tx, ty, px, py = self._at(second)
        found = np.stack([(x * sx + ox - px) / tx - x, (y * sy + oy - py) / ty - y], axis=-1)
        if self.ball is not None:
            here, there = self._centre(first), self._centre(second)
            found[self._ball(first) >= 0.5] = there[0] - here[0], there[1] - here[1]
        return found.astype(np.float32)

    def visible(self, first: int, second: int) -> NDArray[np.bool_]:
        """Which pixels of a frame are seen in another: ``(H, W)``.

        Not the edge of the ball, whose pixels are of both.
        """
        flow = self.flow(first, second)
        x, y = self._grid()
        x, y = x + flow[..., 0], y + flow[..., 1]
        seen: NDArray[np.bool_] = (
            (x >= 0.5) & (x <= self.width - 0.5) & (y >= 0.5) & (y <= self.height - 0.5)
        )
        if self.ball is None:
            return seen
        here = self._ball(first)
        cx, cy = self._centre(second)
        distance = np.hypot(x - cx, y - cy) - BALL * self.height
        on_ball = here >= 0.5
        clear = np.abs(here - 0.5) > 2
        clear_of_it: NDArray[np.bool_] = seen & clear & (on_ball | (distance > 2))
        return clear_of_it

    def _at(self, index: int) -> tuple[float, float, float, float]:
        """Scale and offset from a frame to the picture, across and down."""
        scale = SHARP / self.zoom**index
        picture = _scaled(self.picture, self.width * SHARP / VIEW)
        left = 0.5 * picture.width - 0.42 * self.width * SHARP
        top = 0.5 * picture.height - 0.45 * self.height * SHARP
        x = left + SHARP * self.pan[0] * index + (SHARP - scale) * self.width / 2
        y = top + SHARP * self.pan[1] * index + (SHARP - scale) * self.height / 2
        return scale, scale, x, y

    def _centre(self, index: int) -> tuple[float, float]:
        assert self.ball is not None
        dx, dy = self.ball
        return 0.7 * self.width + dx * index, 0.35 * self.height + dy * index

    def _ball(self, index: int) -> Array:
        """0.5 and more on the ball, less beside it: the distance from its edge in pixels."""
        x, y = self._grid()
        cx, cy = self._centre(index)
        inside: Array = (BALL * self.height - np.hypot(x - cx, y - cy) + 0.5).astype(np.float32)
        return inside

    def _grid(self) -> tuple[Array, Array]:
        """The centres of the pixels, across and down, ``(H, W)`` each."""
        x, y = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        return x.astype(np.float32), y.astype(np.float32)

    def _look(self, picture: Image.Image, at: tuple[float, float, float, float]) -> Array:
        sx, sy, ox, oy = at
        size = (self.width, self.height)
        seen = picture.transform(
            size, Image.Transform.AFFINE, (sx, 0, ox, 0, sy, oy), Image.Resampling.BICUBIC
        )
        levels: Array = np.asarray(seen, np.float32) / np.float32(255)
        return levels


@lru_cache(maxsize=8)  # drawing takes a second, and a film has many frames
def _scaled(name: str, width: float) -> Image.Image:
    picture = _drawn(name)
    height = round(picture.height * width / picture.width)
    return picture.resize((round(width), height), Image.Resampling.LANCZOS)


_drawn = lru_cache(maxsize=4)(samples.load)
