"""What a command holds until it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

UNTIL_END: ContextVar[ExitStack | None] = ContextVar("UNTIL_END", default=None)


@contextmanager
def until_end() -> Iterator[None]:
    """While a command runs: what is put on ``UNTIL_END`` is closed at its end."""
    with ExitStack() as stack:
        before = UNTIL_END.set(stack)
        stack.callback(UNTIL_END.reset, before)
        yield
