"""The ways in which a run ends early, as errors that carry what it had by then.

They can be pickled, so that they get from a worker process to the one that started it.
"""

from __future__ import annotations

from fastnst.errors import NonFiniteLoss, OutputFailed
from fastnst.run.result import Result


class Diverged(NonFiniteLoss):
    """The loss of a run became NaN or infinite and could not be recovered. Exit code 1.

    Attributes:
        result: The ``Result`` with the best picture before that, or None if there is none.
    """

    def __init__(self, message: str, result: Result | None) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[type[Diverged], tuple[str, Result | None]]:
        return type(self), (self.args[0], self.result)


class Unsaved(OutputFailed):
    """Something beside the result could not be written on the way: a checkpoint, a film. Exit 1.

    Attributes:
        result: The ``Result`` with the best picture so far.
    """

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[type[Unsaved], tuple[str, Result]]:
        return type(self), (self.args[0], self.result)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during the optimisation. Exit code 130.

    Attributes:
        result: The ``Result`` with the best picture so far.
    """

    exit_code = 130

    def __init__(self, result: Result) -> None:
        super().__init__("interrupted")
        self.result = result

    def __reduce__(self) -> tuple[type[Interrupted], tuple[Result]]:
        return type(self), (self.result,)
