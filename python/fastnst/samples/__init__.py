"""The pictures that come with the package, drawn by its own code when they are asked for.

Scenes (kind ``content``) and paintings (kind ``style``) to try a style transfer on without any
file at hand: ``fastnst stylize sample:harbour sample:swirl``. They need numpy and Pillow only,
read nothing from disk or network and are the same every time. One picture takes about a second.
"""

from __future__ import annotations

import difflib
import importlib
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from fastnst import files
from fastnst.errors import InvalidInput

if TYPE_CHECKING:
    from PIL import Image

PREFIX = "sample:"  # of a sample's name where a path is expected
SCENE, WIDE, HIGH = (768, 576), (640, 512), (512, 640)  # width and height
Kind = Literal["content", "style"]


@dataclass(frozen=True)
class Sample:
    """One built-in picture.

    Attributes:
        name: what `load` and ``sample:NAME`` take.
        kind: ``content`` for a scene, ``style`` for a painting.
        size: width and height in pixels.
        scene: what it shows.
        draw: makes the picture, RGB, of the same size and content every time.
    """

    name: str
    kind: Kind
    size: tuple[int, int]
    scene: str
    draw: Callable[[], Image.Image]

    @property
    def description(self) -> str:
        """One line for a listing."""
        return f"{self.scene}, {'{}x{}'.format(*self.size)}"


def _sample(name: str, kind: Kind, size: tuple[int, int], scene: str) -> Sample:
    """A sample whose module is imported only when it is drawn."""

    def draw() -> Image.Image:
        picture: Image.Image = importlib.import_module(f".{name}", __name__).draw()
        return picture

    return Sample(name, kind, size, scene, draw)


SAMPLES: Mapping[str, Sample] = MappingProxyType(
    {
        sample.name: sample
        for sample in (
            _sample("harbour", "content", SCENE, "old gabled houses, boats and their reflections"),
            _sample("lighthouse", "content", SCENE, "lighthouse on a cliff above the evening sea"),
            _sample("mountains", "content", SCENE, "snow peaks mirrored in a lake among spruces"),
            _sample("ink", "style", WIDE, "pine and mountains cross-hatched in black ink"),
            _sample("mosaic", "style", WIDE, "fish in glass tesserae with dark grout"),
            _sample("poppies", "style", HIGH, "poppy field in thick palette-knife paint, upright"),
            _sample("swirl", "style", WIDE, "starry night sky in long swirling strokes"),
            _sample("waves", "style", WIDE, "breaking waves as a colour woodcut"),
        )
    }
)


def names(kind: Kind | None = None) -> list[str]:
    """Names of the samples, or of those of one kind, scenes first."""
    return [sample.name for sample in SAMPLES.values() if kind in (None, sample.kind)]


def find(name: str) -> Sample:
    """A sample by its name, which is not drawn yet.

    Raises:
        InvalidInput: if there is no such sample, with the closest name.
    """
    sample = SAMPLES.get(name)
    if sample is None:
        close = difflib.get_close_matches(name.lower(), SAMPLES, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InvalidInput(f"no sample named {name!r}: {hint}there are {', '.join(SAMPLES)}")
    return sample


def load(name: str) -> Image.Image:
    """Draw a sample.

    Args:
        name: one of `names`.

    Returns:
        An RGB picture.

    Raises:
        InvalidInput: there is no such sample.
    """
    return find(name).draw()


def write_all(directory: str | Path) -> list[Path]:
    """Write every sample as ``NAME.png`` into a directory, which is made if it is missing.

    Returns:
        The files, in the order of `names`.

    Raises:
        InvalidInput: if a file of such a name is there that is something else.
        OutputFailed: if one cannot be written.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[Path, bytes] = {}
    for name in SAMPLES:
        path, data = folder / f"{name}.png", io.BytesIO()
        load(name).save(data, "PNG")
        if os.path.lexists(path) and not (path.is_file() and path.read_bytes() == data.getvalue()):
            raise InvalidInput(f"{path} exists and is something else: name another folder")
        found[path] = data.getvalue()
    for path, content in found.items():
        files.write(path, content)
    return list(found)


__all__ = ["PREFIX", "SAMPLES", "Kind", "Sample", "find", "load", "names", "write_all"]
