"""What was made of a film, added up: the frames themselves would take much memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastnst.video.film_frame import FilmFrame


@dataclass
class Tally:
    """What was made of a film so far.

    Attributes:
        seconds: How long the frames took, over all passes.
        iterations: Of their optimisations, together.
        shots: How many of them begin a shot.
        width: Of a frame, in pixels; 0 before there is one.
        height: Likewise.
    """

    seconds: float = 0.0
    iterations: int = 0
    shots: int = 0
    width: int = 0
    height: int = 0
    _numbers: set[int] = field(default_factory=set)

    @property
    def frames(self) -> int:
        """How many frames; one that several passes made counts once."""
        return len(self._numbers)

    def add(self, painted: FilmFrame) -> None:
        """Count a frame."""
        self._numbers.add(painted.frame.index)
        self.seconds += painted.seconds
        self.iterations += painted.result.iterations
        self.shots += painted.begins
        self.height, self.width, _ = painted.pixels.shape

    @property
    def rates(self) -> str:
        """What a frame took: ``1.5 s and 2.0 iterations a frame, 1 shot``."""
        each = max(1, self.frames)
        return (
            f"{self.seconds / each:.1f} s and {self.iterations / each:.1f} iterations a frame, "
            f"{self.shots} shot{'' if self.shots == 1 else 's'}"
        )
