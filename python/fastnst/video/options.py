"""What shapes a film beside the settings of its frames."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fastnst.errors import InvalidInput
from fastnst.settings.kinds import Kind, Number, Whole, shown

DIS = "dis"  # OpenCV's optical flow
MOST_HELD = 1e12  # a frame moves no more long before
KINDS: dict[str, Kind] = {
    "temporal_weight": Number(high=MOST_HELD),
    "band": Number(),
    "frame_iterations": Whole(0, 1_000_000),
    "passes": Whole(1, 100),
}
_DISTANCE = Whole(1, 1000)


@dataclass(frozen=True)
class FilmOptions:
    """How the frames of a film hang together.

    Attributes:
        temporal_weight: How much a frame is held to the frames before it, in losses of the shot's
            first frame: γ is this number times that loss. So it means the same for every preset.
            Over the moving scene at 192 px the warping error was 0.50 at 300, 0.44 at 400 and 0.33
            at 600 of that without the term, the last frame's style loss 5, 6 and 9 % above that of
            the frame made alone.
        frame_iterations: Iterations of a frame that is not the first of its shot, at most. The
            first has as many as the settings say. Over ten frames of the moving scene at 256 px,
            30, 20, 15 and 12 at most ended at style losses of 0.629, 0.642, 0.660 and 0.678 and
            warping errors of 1.54e-4, 1.57e-4, 1.50e-4 and 1.46e-4. Curvature pairs or
            ``spectral``'s scaling carried over from the frame before, warped or not, saved at most
            3 of 19 iterations.
        band: A frame is done once its loss without the temporal term, and its style losses, are
            within this share of those of the shot's first frame.
        distances: Which frames before a frame it is held to; each pixel counts once, by the
            nearest of them from which it is seen (long-term consistency).
        passes: 1; or more: the film is gone over again, backwards and forwards in turn, each frame
            starting from itself blended with its warped neighbour.
        flow: ``dis``, or a folder of ``.flo`` files.
        cuts: Whether scene cuts are looked for, after which all starts anew.
    """

    temporal_weight: float = 300.0
    frame_iterations: int = 20
    band: float = 0.05
    distances: tuple[int, ...] = (1, 2, 4)
    passes: int = 1
    flow: str = DIS
    cuts: bool = True

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            InvalidInput: naming the first that is wrong, what was expected and its value.
        """
        for name, kind in KINDS.items():
            object.__setattr__(self, name, kind.check(name, getattr(self, name)))
        if not isinstance(self.distances, (tuple, list)):
            raise InvalidInput(f"distances is {shown(self.distances)}: expected whole numbers")
        distances = tuple(_DISTANCE.check("distances", one) for one in self.distances)
        if not distances or distances[0] != 1 or list(distances) != sorted(set(distances)):
            raise InvalidInput(
                f"distances is {shown(distances)}: expected 1 and perhaps larger numbers, rising"
            )
        object.__setattr__(self, "distances", distances)
        if not isinstance(self.flow, str):
            raise InvalidInput(f"flow is {shown(self.flow)}: expected {DIS} or a folder's name")
        if not isinstance(self.cuts, bool):
            raise InvalidInput(f"cuts is {shown(self.cuts)}: expected True or False")

    def to_dict(self) -> dict[str, Any]:
        """The options as plain values for JSON."""
        return {**asdict(self), "distances": list(self.distances)}


@dataclass(frozen=True)
class Selection:
    """Which frames of a clip are taken.

    Attributes:
        start: The first, counted from 0.
        end: The first that is not taken any more; None: all to the end.
        every: Every how many-th from there.
    """

    start: int = 0
    end: int | None = None
    every: int = 1

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InvalidInput: if they select nothing.
        """
        for name in ("start", "end", "every"):
            value = getattr(self, name)
            if type(value) is not int and not (name == "end" and value is None):
                raise InvalidInput(f"--{name} is {shown(value)}: expected a whole number")
        if self.start < 0 or self.every < 1:
            raise InvalidInput(
                f"--start is {self.start} and --every is {self.every}: expected 0 or more, and 1 "
                "or more"
            )
        if self.end is not None and self.end <= self.start:
            raise InvalidInput(f"--end is {self.end}: expected more than --start, {self.start}")

    def takes(self, index: int) -> bool:
        """Whether a frame is taken, by its number in the clip."""
        return index >= self.start and (index - self.start) % self.every == 0

    def is_over(self, index: int) -> bool:
        """Whether neither this frame nor any later one is taken."""
        return self.end is not None and index >= self.end

    def count(self, frames: int) -> int:
        """How many frames are taken of so many."""
        last = frames if self.end is None else min(frames, self.end)
        return max(0, -(-(last - self.start) // self.every))
