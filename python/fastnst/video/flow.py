"""Optical flow: where each pixel of one frame is in another.

The interface is one function, ``Flow``. OpenCV's DIS flow (Kroeger et al. 2016, arXiv:1603.03590)
is the default; a folder of ``.flo`` files serves those who have better ones.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastnst.errors import BackendUnavailable, InvalidInput
from fastnst.fingerprint import sha256_of_file
from fastnst.images.pixels import Pixels
from fastnst.video.options import DIS

MAGIC = 202021.25  # of a .flo file (Baker et al. 2011, the Middlebury benchmark)
_LONGEST = 100_000  # pixels of a side


@dataclass(frozen=True)
class Frame:
    """A frame of a clip.

    Attributes:
        index: Its number in the clip, from 0.
        time: When it is shown, in seconds.
        pixels: ``(H, W, 3)``.
        until: When it is shown no more, because the next frame that is taken is, or the first that
            is not taken any more, or because the clip ends; None: that is not known.
        ends: Whether the clip ends with it.
    """

    index: int
    time: Fraction
    pixels: Pixels
    until: Fraction | None = None
    ends: bool = False


# From one frame to another: ``(H, W, 2)`` float32, how far right and how far down of itself each
# pixel of the first is in the second. None: there is no flow between these two.
Flow: TypeAlias = "Callable[[Frame, Frame], Tensor | None]"


def choose_flow(name: str) -> Flow:
    """The flow that an option names: ``dis``, or a folder of ``.flo`` files.

    Raises:
        InvalidInput: for anything else.
        BackendUnavailable: without OpenCV, where it is needed.
    """
    if name == DIS:
        return dis_flow()
    folder = Path(name)
    if not os.path.isdir(name):  # noqa: PTH112 - False for what no system takes
        raise InvalidInput(f"flow is {name!r}: expected {DIS} or a folder of .flo files")
    return lambda first, second: _from_folder(folder, first, second)


def dis_flow() -> DisFlow:
    """OpenCV's DIS flow.

    Raises:
        BackendUnavailable: without OpenCV.
    """
    return DisFlow(_opencv())


class DisFlow:
    """OpenCV's DIS flow, which ``find_flows`` computes for several pairs of frames at once.

    Args:
        cv2: OpenCV's module.
    """

    smallest = 16  # a side below it has no patches to compare

    def __init__(self, cv2: Any) -> None:
        self._cv2 = cv2
        self.share_among(1)

    def share_among(self, pairs: int) -> None:
        """Say how many pairs are computed at once: OpenCV has threads of its own for one alone."""
        self._cv2.setNumThreads(1 if pairs > 1 else torch.get_num_threads())

    def __call__(self, first: Frame, second: Frame) -> Tensor:
        """The flow from the first frame to the second."""
        cv2 = self._cv2
        greys = [
            cv2.cvtColor((f.pixels * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY)
            for f in (first, second)
        ]
        height, width = greys[0].shape
        down, right = (max(0, self.smallest - side) for side in (height, width))
        if down or right:
            greys = [np.pad(grey, ((0, down), (0, right)), mode="edge") for grey in greys]
        vectors = self._method().calc(greys[0], greys[1], None)
        return torch.from_numpy(np.ascontiguousarray(vectors[:height, :width]))

    def _method(self) -> Any:
        """A new one for each pair: it has buffers of its own."""
        method = self._cv2.DISOpticalFlow_create(self._cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        # To the last pixel: with the preset's own coarser end strokes slip by a seventh of a pixel,
        # which is ten times the squared difference between a stroke and itself.
        method.setFinestScale(0)
        # With the preset's own patches and refinement some places slip by a pixel: in the moving
        # scene at 128 px the root mean square error was 0.07 to 0.11 pixels, with these 0.06 to
        # 0.07.
        method.setPatchStride(2)
        method.setVariationalRefinementIterations(20)
        return method


def find_flows(flow: Flow, pairs: Sequence[tuple[Frame, Frame]]) -> list[Tensor | None]:
    """The flows of several pairs of frames, in threads where the flow is made for it.

    They have the same bits as one after the other. Six flows of 512 × 384 pixels take 1.1 s on two
    cores in threads, 1.5 s one after the other with OpenCV's threads. With fewer pairs than threads
    OpenCV's are better: with eight threads a frame of a film took 0.85 s with them, 1.1 s in these.
    """
    threads = torch.get_num_threads()
    if not isinstance(flow, DisFlow) or not 1 < threads <= len(pairs):
        return [flow(*pair) for pair in pairs]
    flow.share_among(threads)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(lambda pair: flow(*pair), pairs))
    finally:
        flow.share_among(1)


def describe_flow(name: str) -> str:
    """What the flow that an option names depends on: films with another one are other films.

    Returns:
        DIS and the version of OpenCV; or the SHA-256 of a folder's ``.flo`` files and their names,
        whatever the folder is called.

    Raises:
        InvalidInput: for a folder or a file in it that cannot be read.
    """
    if name == DIS:
        return DIS if unavailable_reason() is not None else f"{DIS} of OpenCV {_version()}"
    found = hashlib.sha256()
    try:
        for path in sorted(Path(name).glob("*.flo")):
            found.update(os.fsencode(path.name) + f" {sha256_of_file(path)}\n".encode())
    except OSError as error:
        named = error.filename or name
        raise InvalidInput(f"flow {named} cannot be read: {error.strerror}") from error
    return found.hexdigest()


def unavailable_reason() -> str | None:
    """Why there is no DIS flow, or None if there is."""
    try:
        _opencv()
    except BackendUnavailable as error:
        return str(error)
    return None


def check_flow(vectors: object, frame: Frame) -> None:
    """Make sure that what a flow gave are vectors of a frame's size.

    Raises:
        InvalidInput: if not.
    """
    height, width, _ = frame.pixels.shape
    said = f"the flow of frame {frame.index}"
    if not isinstance(vectors, Tensor) or not vectors.is_floating_point():
        raise InvalidInput(f"{said} is {type(vectors).__name__}: expected a tensor of floats")
    if tuple(vectors.shape) != (height, width, 2) or vectors.device.type != "cpu":
        raise InvalidInput(
            f"{said} has shape {tuple(vectors.shape)} on {vectors.device}: expected "
            f"{(height, width, 2)} on cpu"
        )
    if not bool(vectors.isfinite().all()):
        raise InvalidInput(f"{said} has vectors that are not finite")


def read_flo(path: Path) -> NDArray[np.float32]:
    """The vectors ``(H, W, 2)`` of a ``.flo`` file.

    Raises:
        InvalidInput: if it is none, or cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"flow {path} cannot be read: {error.strerror}") from error
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != MAGIC:
        raise InvalidInput(f"flow {path} is no .flo file")
    width, height = (int(n) for n in np.frombuffer(data, "<i4", 2, 4))
    fits = 0 < width <= _LONGEST and 0 < height <= _LONGEST
    if not fits or len(data) != 12 + 8 * width * height:
        raise InvalidInput(f"flow {path} is damaged: {width}×{height} in {len(data)} bytes")
    vectors = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise InvalidInput(f"flow {path} has vectors that are not finite")
    return vectors


def write_flo(path: Path, vectors: NDArray[np.float32]) -> None:
    """Write vectors ``(H, W, 2)`` as a ``.flo`` file."""
    height, width, _ = vectors.shape
    head = np.array([MAGIC], "<f4").tobytes() + np.array([width, height], "<i4").tobytes()
    path.write_bytes(head + vectors.astype("<f4").tobytes())


def flo_name(first: int, second: int) -> str:
    """What the flow between two frames is called in a folder, by their numbers in the clip."""
    return f"{first:05d}-{second:05d}.flo"


def scale_flow(vectors: Tensor, width: int, height: int) -> Tensor:
    """A flow ``(h, w, 2)`` between frames of another size, at this size."""
    if tuple(vectors.shape[:2]) == (height, width):
        return vectors
    planes = vectors.permute(2, 0, 1)[None]
    scaled = torch.nn.functional.interpolate(
        planes, (height, width), mode="bilinear", align_corners=False
    )[0].permute(1, 2, 0)
    across, down = width / vectors.shape[1], height / vectors.shape[0]
    return torch.stack((scaled[..., 0] * across, scaled[..., 1] * down), dim=-1)


def _from_folder(folder: Path, first: Frame, second: Frame) -> Tensor | None:
    path = folder / flo_name(first.index, second.index)
    try:
        if not path.exists():
            return None
    except OSError as error:
        raise InvalidInput(f"flow {path} cannot be read: {error.strerror}") from error
    height, width, _ = first.pixels.shape
    return scale_flow(torch.from_numpy(read_flo(path)), width, height)


def _version() -> str:
    return str(_opencv().__version__)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise BackendUnavailable(
            "optical flow needs OpenCV; install it with: pip install opencv-python-headless; "
            "or name a folder of .flo files"
        ) from error
    return cv2
