"""Small versions of the built-in pictures, kept in files: drawing one takes about a second."""

from __future__ import annotations

import base64
from pathlib import Path

from PIL import Image

SIDE = 160  # pixels, long side


def make(image: Image.Image) -> Image.Image:
    """A picture's thumbnail."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return small


def path_of(name: str) -> Path:
    """The file of a sample's thumbnail; ``tools/thumbnails.py`` writes it."""
    return Path(__file__).parent / "pictures" / f"{name}.webp"


def data_url(name: str) -> str:
    """A sample's thumbnail as an address that carries it."""
    return f"data:image/webp;base64,{base64.b64encode(path_of(name).read_bytes()).decode()}"
