"""The errors that fastnst raises: one family, one-line messages.

Each message names the file or value at fault, what was expected and what to do about it. The
command line prints the message alone and turns the class into an exit code.
"""

from __future__ import annotations


class FastNSTError(Exception):
    """Base of every error that fastnst raises on purpose. Exit code 1."""

    exit_code = 1

    def __str__(self) -> str:
        """The message in one line, whatever the names in it have."""
        return " ".join(super().__str__().splitlines())


class InvalidInput(FastNSTError, ValueError):
    """A picture, a setting or a file that cannot be used as given. Exit code 2."""

    exit_code = 2


class MemoryRanOut(InvalidInput):
    """A run that the memory was too small for when it came to it. Exit code 2."""


class StateRefused(InvalidInput):
    """A saved state that cannot be read, or that a run like this one never had. Exit code 2."""


class BackendUnavailable(FastNSTError, RuntimeError):
    """An engine, device or kernel that was asked for by name cannot run here. Exit code 1."""


class NonFiniteLoss(FastNSTError, ArithmeticError):
    """The loss or its gradient became NaN or infinite and could not be recovered. Exit code 1.

    Where a whole run raises it, ``stylize`` for one, it is a ``Diverged``, whose ``result`` is the
    ``Result`` with the best picture before that, or None if there is none.
    """


class OutputFailed(FastNSTError, OSError):
    """The result could not be written. Exit code 1."""


class RankLost(FastNSTError, ConnectionError):
    """Another process that computes the same picture ended, or did not answer. Exit code 1."""
