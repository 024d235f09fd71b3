"""A video of the picture as it forms (extra ``video``: PyAV, which brings its own FFmpeg)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastnst import files
from fastnst.errors import BackendUnavailable, FastNSTError, InvalidInput, OutputFailed
from fastnst.images.pixels import Pixels

SUFFIX = ".mp4"
FRAMES_PER_SECOND = 30
FRAMES = 300  # of a run, about: ten seconds
SPACE = 16 << 20  # bytes that a film of a small picture may take
LAST = 2  # seconds that the last picture stands


def every(iterations: int) -> int:
    """How many iterations lie between two frames of a run's video."""
    return max(1, round(iterations / FRAMES))


def check(path: Path) -> None:
    """Make sure, before the work starts, that a video can be written.

    Raises:
        InvalidInput: for a name that does not end in .mp4, or a folder that cannot be written to.
        BackendUnavailable: without PyAV.
    """
    if path.suffix.lower() != SUFFIX:
        raise InvalidInput(f"video {path}: expected a name ending in {SUFFIX}")
    _av()
    files.check_writable(path, "video", SPACE, lambda head: head[4:8] == b"ftyp", "MP4 file")


@contextlib.contextmanager
def film(path: str | os.PathLike[str]) -> Iterator[Callable[[Pixels], None]]:
    """Write pictures of one size to an MP4 file (H.264), which is put in place at the end.

    Args:
        path: Where, a name ending in .mp4.

    Yields:
        What to call with each frame, ``(H, W, 3)`` in [0, 1]. Sides are cut to even numbers, as the
        format needs them. However the block is left, the frames up to there are a whole film.

    Raises:
        InvalidInput: for another name, or a folder that cannot be written to.
        BackendUnavailable: without PyAV.
        OutputFailed: if the file cannot be written.
    """
    target = Path(path)
    check(target)
    av = _av()
    try:
        with files.beside(target) as draft:
            encoder = _Encoder(draft)
            try:
                yield encoder.add
            finally:
                if encoder.finish():
                    files.put_in_place(draft, target)
    except (OSError, av.FFmpegError) as error:
        if isinstance(error, FastNSTError):
            raise
        raise OutputFailed(f"video {target} could not be written: {error}") from error


class _Encoder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.container: Any = None
        self.stream: Any = None
        self.last: Any = None

    def add(self, pixels: Pixels) -> None:
        height, width = (side - side % 2 for side in pixels.shape[:2])
        if self.container is None:
            self.container = _av().open(str(self.path), "w", format="mp4")
            self.stream = self.container.add_stream(
                "libx264", rate=FRAMES_PER_SECOND, options={"crf": "18"}
            )
            self.stream.width, self.stream.height = width, height
            self.stream.pix_fmt = "yuv420p"  # what every player shows
        self.last = np.ascontiguousarray((pixels[:height, :width] * 255).round().astype(np.uint8))
        self.encode(self.last)

    def encode(self, levels: Any) -> None:
        frame = None if levels is None else _av().VideoFrame.from_ndarray(levels, format="rgb24")
        for packet in self.stream.encode(frame):
            self.container.mux(packet)

    def finish(self) -> bool:
        """Let the last picture stand for a while and close; False if there were no frames."""
        if self.container is None:
            return False
        for _ in range(LAST * FRAMES_PER_SECOND):
            self.encode(self.last)
        self.encode(None)  # what the encoder still holds
        self.container.close()
        return True


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise BackendUnavailable("videos need PyAV; install it with: pip install av") from error
    return av
