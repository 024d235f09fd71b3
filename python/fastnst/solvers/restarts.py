"""How often a solver may begin again after a value that is not finite, and how carefully."""

from __future__ import annotations

from fastnst.errors import NonFiniteLoss

RESTARTS = 5
SHRINKAGE = 4  # each restart takes steps so many times as short


class Restarts:
    """Counts the restarts of a solver.

    Args:
        done: How many there were already.
    """

    def __init__(self, done: int = 0) -> None:
        self.done = done

    @property
    def step_scale(self) -> float:
        """The factor on the length of the first and of the longest step: 1, 1/4, 1/16, …"""
        return float(SHRINKAGE) ** -self.done

    def begin_again(self, iteration: int) -> None:
        """Count one more restart, after so many iterations.

        Raises:
            NonFiniteLoss: if there were ``RESTARTS`` already.
        """
        if self.done == RESTARTS:
            raise NonFiniteLoss(
                f"the loss became NaN or infinite after {iteration} iterations, "
                f"and again after {RESTARTS} restarts with smaller steps"
            )
        self.done += 1


def refuse_start() -> NonFiniteLoss:
    """The error of a start whose loss or gradient is not finite."""
    return NonFiniteLoss("the loss of the starting picture is not a finite number")
